# The push: Snowflake publishes to this topic when rows were inserted, so that the poller runs before its schedule. The whole
# chain is in snowflake/optional_push.sql. A message contains no data.

locals {
  push_role = "${var.environment}-snowflake-push"
}

resource "aws_sns_topic" "push" {
  count = var.push_topic ? 1 : 0

  name = "${var.environment}-snowflake-push"
}

resource "aws_sns_topic_subscription" "push" {
  count = var.push_topic ? 1 : 0

  topic_arn = aws_sns_topic.push[0].arn
  protocol  = "lambda"
  endpoint  = aws_lambda_function.poller.arn

  depends_on = [aws_lambda_permission.push]
}

resource "aws_lambda_permission" "push" {
  count = var.push_topic ? 1 : 0

  statement_id  = "Push"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.poller.function_name
  principal     = "sns.amazonaws.com"
  source_arn    = aws_sns_topic.push[0].arn
}
