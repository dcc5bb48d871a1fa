"""Messages of SNS to a subscribed function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rowqueue_local.aws.events import iso_time

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Notification:
    """A message to one subscription.

    Attributes:
        message_id: the same for all subscriptions.
        message: its text.
        subject: None if it has none.
        attributes: by name, each with ``Type`` and ``Value``.
    """

    subscription_arn: str
    topic_arn: str
    message_id: str
    message: str
    subject: str | None
    attributes: Mapping[str, Any]


def sns_event(notification: Notification, now: float) -> dict[str, Any]:
    """The event of one message, as in the Lambda developer guide (with-sns), but not signed.

    Args:
        notification: the message.
        now: when it was published, seconds since the epoch.
    """
    region = notification.topic_arn.split(":")[3]
    host = f"https://sns.{region}.amazonaws.com"
    return {
        "Records": [
            {
                "EventSource": "aws:sns",
                "EventVersion": "1.0",
                "EventSubscriptionArn": notification.subscription_arn,
                "Sns": {
                    "Type": "Notification",
                    "MessageId": notification.message_id,
                    "TopicArn": notification.topic_arn,
                    "Subject": notification.subject,
                    "Message": notification.message,
                    "Timestamp": iso_time(now),
                    "SignatureVersion": "1",
                    "Signature": "none",
                    "SigningCertUrl": f"{host}/none.pem",
                    "UnsubscribeUrl": f"{host}/?Action=Unsubscribe&SubscriptionArn={notification.subscription_arn}",
                    "MessageAttributes": dict(notification.attributes),
                },
            }
        ]
    }
