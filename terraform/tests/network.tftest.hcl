# A new VPC, and an existing one.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  environment           = "dev"
  aws_region            = "us-east-1"
  snowflake_account     = "myorg-myaccount"
  snowflake_user        = "QUEUE_DB_SERVICE"
  snowflake_private_key = "not a key"
  external_service_url  = "https://partner.example.com/process"
  image_uri             = "111122223333.dkr.ecr.us-east-1.amazonaws.com/dev-snowflake-processor:sha-0123456789abcdef"
  lambda_zip            = "versions.tf" # any file: the mock uploads nothing
}

run "our_own" {
  command = plan

  assert {
    condition     = aws_subnet.private[*].cidr_block == ["10.40.0.0/20", "10.40.16.0/20"] && aws_subnet.public[*].cidr_block == ["10.40.128.0/20", "10.40.144.0/20"]
    error_message = "Two zones, with a private and a public subnet each."
  }

  assert {
    condition     = length(aws_nat_gateway.main) == 1 && length(aws_route.nat) == 2 && aws_vpc_endpoint.s3[0].vpc_endpoint_type == "Gateway"
    error_message = "One NAT gateway serves both zones, and S3 has an endpoint."
  }

  assert {
    condition     = keys(aws_vpc_security_group_egress_rule.https) == ["443"] && aws_vpc_security_group_egress_rule.https["443"].ip_protocol == "tcp"
    error_message = "Tasks connect by HTTPS, and nothing connects to them."
  }

  assert {
    condition     = length(aws_lambda_function.poller.vpc_config) == 0
    error_message = "The poller is outside the VPC."
  }
}

run "one_nat_gateway_a_zone_and_a_service_on_another_port" {
  command = plan

  variables {
    availability_zone_count = 3
    nat_per_az              = true
    external_service_url    = "https://partner.example.com:8443/process"
    poller_in_vpc           = true
  }

  assert {
    condition     = length(aws_nat_gateway.main) == 3 && length(aws_eip.nat) == 3
    error_message = "Each zone has a gateway with an address."
  }

  assert {
    condition     = { for key, rule in aws_vpc_security_group_egress_rule.https : key => "${rule.from_port}-${rule.to_port}" } == { "443" = "443-443", "8443" = "8443-8443" }
    error_message = "The service's port is open too."
  }

  assert {
    condition     = length(aws_lambda_function.poller.vpc_config) == 1 && aws_iam_role_policy_attachment.poller_in_vpc[0].policy_arn == "arn:aws:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole"
    error_message = "The poller is in the VPC and may create its network interfaces."
  }
}

run "the_highest_port" {
  command = plan

  variables {
    external_service_url = "https://partner.example.com:65535"
  }

  assert {
    condition     = keys(aws_vpc_security_group_egress_rule.https) == ["443", "65535"]
    error_message = "65535 is a valid port."
  }
}

run "somebody_elses" {
  command = plan

  variables {
    vpc_id             = "vpc-0123456789abcdef0"
    private_subnet_ids = ["subnet-1", "subnet-2"]
  }

  assert {
    condition     = length(aws_vpc.main) + length(aws_subnet.private) + length(aws_subnet.public) + length(aws_nat_gateway.main) + length(aws_eip.nat) + length(aws_vpc_endpoint.s3) + length(aws_route_table.private) + length(aws_default_security_group.unused) == 0
    error_message = "No network resource is created or changed."
  }

  assert {
    condition     = aws_security_group.processor.vpc_id == "vpc-0123456789abcdef0" && aws_lambda_function.poller.environment[0].variables.ECS_SUBNETS == jsonencode(["subnet-1", "subnet-2"])
    error_message = "The tasks run in that VPC's subnets."
  }
}
