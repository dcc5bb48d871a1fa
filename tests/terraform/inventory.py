"""The resources in an AWS account, of the types that Terraform creates here, to show that cleanup leaves none."""

from __future__ import annotations

import jmespath

from rowqueue_local import deployment

# Service, operation, path of the names in its answer, and arguments of the operation. AWS and the stand-in list deleted
# resources for a while, so some paths filter them.
KINDS = (
    ("cloudwatch", "describe_alarms", "MetricAlarms[].AlarmArn", {}),
    ("cloudwatch", "list_dashboards", "DashboardEntries[].DashboardArn", {}),
    ("ec2", "describe_addresses", "Addresses[].AllocationId", {}),
    ("ec2", "describe_internet_gateways", "InternetGateways[].InternetGatewayId", {}),
    ("ec2", "describe_nat_gateways", "NatGateways[?State != 'deleted'].NatGatewayId", {}),
    ("ec2", "describe_route_tables", "RouteTables[].RouteTableId", {}),
    ("ec2", "describe_security_groups", "SecurityGroups[].GroupId", {}),
    ("ec2", "describe_subnets", "Subnets[].SubnetId", {}),
    ("ec2", "describe_vpc_endpoints", "VpcEndpoints[?State != 'deleted'].VpcEndpointId", {}),
    ("ec2", "describe_vpcs", "Vpcs[].VpcId", {}),
    ("ecr", "describe_repositories", "repositories[].repositoryArn", {}),
    ("ecs", "describe_clusters", "clusters[?status == 'ACTIVE'].clusterArn", {"clusters": [deployment.PROCESSOR]}),
    ("ecs", "list_task_definitions", "taskDefinitionArns", {}),
    ("events", "list_rules", "Rules[].Arn", {}),
    ("iam", "list_roles", "Roles[].Arn", {}),
    ("lambda", "list_functions", "Functions[].FunctionArn", {}),
    ("logs", "describe_log_groups", "logGroups[].logGroupName", {}),
    ("s3", "list_buckets", "Buckets[].Name", {}),
    ("scheduler", "list_schedule_groups", "ScheduleGroups[].Arn", {}),
    ("scheduler", "list_schedules", "Schedules[].Arn", {}),
    ("secretsmanager", "list_secrets", "SecretList[].ARN", {}),
    ("sns", "list_topics", "Topics[].TopicArn", {}),
    ("sqs", "list_queues", "QueueUrls", {}),
)


def taken(stack):
    """The names of all resources in the AWS stand-in, by service and operation."""
    found = {}
    for service, operation, names, asked in KINDS:
        answer = getattr(deployment.client(stack, service), operation)(**asked)
        found[f"{service} {operation}"] = set(jmespath.search(names, answer) or ())
    return found
