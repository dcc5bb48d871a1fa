"""AWS's own metrics that alarms and dashboard may use, with their dimensions and the page that lists them."""

AWS = {
    # AWS Lambda Developer Guide, "Types of metrics for Lambda functions"
    "AWS/Lambda": {
        name: {"FunctionName"} for name in ("Invocations", "Errors", "Throttles", "Duration", "AsyncEventsDropped")
    },
    # Amazon SQS Developer Guide, "Available CloudWatch metrics for Amazon SQS"
    "AWS/SQS": {"ApproximateNumberOfMessagesVisible": {"QueueName"}},
    # EventBridge Scheduler User Guide, "Monitoring Amazon EventBridge Scheduler with Amazon CloudWatch"
    "AWS/Scheduler": {name: {"ScheduleGroup"} for name in ("InvocationDroppedCount", "TargetErrorCount")},
    # Amazon CloudWatch User Guide, "Amazon ECS Container Insights metrics"
    "ECS/ContainerInsights": {
        "TaskCount": {"ClusterName"},
        **{
            name: {"ClusterName", "TaskDefinitionFamily"}
            for name in ("CpuUtilized", "CpuReserved", "MemoryUtilized", "MemoryReserved")
        },
    },
}
