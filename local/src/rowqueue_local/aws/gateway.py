"""The entry of the AWS stand-in: requests that it implements are answered here, all others by moto."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

from rowqueue_local.aws.controls import PREFIX
from rowqueue_local.aws.errors import ApiError
from rowqueue_local.aws.lambda_model import Invocation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from rowqueue_local.aws.controls import Controls
    from rowqueue_local.aws.fargate import TaskOperations
    from rowqueue_local.aws.lambda_functions import Functions
    from rowqueue_local.aws.lambda_model import InvocationResult

_ECS = "AmazonEC2ContainerServiceV20141113."
_INVOCATION = re.compile(r"/2015-03-31/functions/(?P<function>.+)/invocations/?")
# The task metadata endpoint, which has its own address on AWS. It is no S3 bucket: "v4" is too short for a name.
_METADATA = re.compile(r"/v4/(?P<task>[0-9a-f]+)(?P<whole>/task)?")
_IN_VAIN = ("403", "404")  # S3 answers 403 to those who may not list the bucket
_SCOPE = re.compile(r"Credential=[^/]+/\d+/(?P<region>[^/]+)/(?P<service>[^/]+)/")


class Gateway:
    """A WSGI application in front of moto's.

    Args:
        moto: answers all other requests.
        fargate: answers the task operations of ECS, and the tasks' metadata.
        functions: answers Lambda's Invoke.
        controls: answers the requests of drills.
        is_away: whether a service, by the name in a request's signature, does not answer.
        not_found: called with the path of each object that was read in vain.
    """

    def __init__(
        self,
        moto: WSGIApplication,
        *,
        fargate: TaskOperations,
        functions: Functions,
        controls: Controls,
        is_away: Callable[[str], bool],
        not_found: Callable[[str], None],
    ) -> None:
        self._moto = moto
        self._fargate = fargate
        self._functions = functions
        self._controls = controls
        self._is_away = is_away
        self._not_found = not_found

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        answer = self._answer(request)
        if answer is not None:
            return answer(environ, start_response)
        return self._moto(environ, self._watched(request, start_response))

    def _watched(self, request: Request, start_response: StartResponse) -> StartResponse:
        """The same, but an object of S3 that was read in vain is noted."""
        scope = _SCOPE.search(request.headers.get("Authorization", ""))
        if request.method != "GET" or not scope or scope["service"] != "s3":
            return start_response

        def start(status: str, *rest: Any) -> Any:
            if status.startswith(_IN_VAIN):
                self._not_found(request.path)
            return start_response(status, *rest)

        return start

    def _answer(self, request: Request) -> Response | None:
        """The answer if the request is ours; otherwise None, with the body left unread for moto."""
        if request.path.startswith(PREFIX):
            return self._controls.answer(request)
        scope = _SCOPE.search(request.headers.get("Authorization", ""))
        if scope and self._is_away(scope["service"]):
            return Response("", status=503)
        operation = request.headers.get("X-Amz-Target", "").removeprefix(_ECS)
        if operation in self._fargate.operations:
            return self._ecs(operation, request)
        if request.method == "POST" and (match := _INVOCATION.fullmatch(request.path)):
            return self._invoke(match["function"], request)
        if request.method == "GET" and (match := _METADATA.fullmatch(request.path)):
            return self._metadata(match["task"], whole=match["whole"] is not None)
        return None

    def _ecs(self, operation: str, request: Request) -> Response:
        perform = self._fargate.operations[operation]
        try:
            return _json(200, perform(_region(request), json.loads(request.get_data() or b"{}")))
        except ApiError as error:
            return _json(error.status, {"__type": error.code, "message": str(error), **error.members})

    def _invoke(self, function: str, request: Request) -> Response:
        call = Invocation(
            region=_region(request),
            function=function,
            qualifier=request.args.get("Qualifier"),
            payload=request.get_data(),
        )
        try:
            match request.headers.get("X-Amz-Invocation-Type", "RequestResponse"):
                case "DryRun":
                    self._functions.check(call)
                    return Response(status=204)
                case "Event":
                    self._functions.invoke_later(call)
                    return Response(status=202, headers={"X-Amzn-RequestId": call.request_id})
                case _:
                    return _answered(call, self._functions.invoke(call), request)
        except ApiError as error:
            body = {"Type": "User", "Message": str(error), **error.members}
            return _json(error.status, body, {"X-Amzn-ErrorType": error.code})

    def _metadata(self, task_id: str, *, whole: bool) -> Response:
        metadata = self._fargate.metadata(task_id)
        if metadata is None:
            return _json(404, {"message": f"no task {task_id} is known here"})
        return _json(200, metadata if whole else metadata["Containers"][0])


def _answered(call: Invocation, outcome: InvocationResult, request: Request) -> Response:
    headers = {"X-Amz-Executed-Version": outcome.version, "X-Amzn-RequestId": call.request_id}
    if outcome.failed:
        headers["X-Amz-Function-Error"] = "Unhandled"
    if request.headers.get("X-Amz-Log-Type") == "Tail":
        headers["X-Amz-Log-Result"] = base64.b64encode(outcome.log_tail).decode()
    return Response(outcome.payload, headers=headers, mimetype="application/json")


def _region(request: Request) -> str:
    """The region in the signature of a request; moto reads it in the same way."""
    scope = _SCOPE.search(request.headers.get("Authorization", ""))
    return scope["region"] if scope else "us-east-1"


def _json(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(body), status=status, headers=headers, mimetype="application/json")
