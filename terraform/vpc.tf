# A new VPC, unless vpc_id names one: public subnets for the NAT gateway, private subnets for the tasks.

data "aws_availability_zones" "available" {
  state = "available"

  filter {
    name   = "opt-in-status" # excludes Local Zones, which have no Fargate
    values = ["opt-in-not-required"]
  }
}

locals {
  make_vpc  = var.vpc_id == null
  zones     = local.make_vpc ? slice(data.aws_availability_zones.available.names, 0, var.availability_zone_count) : []
  nat_count = local.make_vpc ? (var.nat_per_az ? var.availability_zone_count : 1) : 0

  vpc_id          = local.make_vpc ? one(aws_vpc.main[*].id) : var.vpc_id
  private_subnets = local.make_vpc ? aws_subnet.private[*].id : var.private_subnet_ids

  service_port = tonumber(try(regex("^https://[^/:?]+:([0-9]+)", var.external_service_url)[0], 443))
}

resource "aws_vpc" "main" {
  count = local.make_vpc ? 1 : 0

  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = { Name = local.processor }
}

# The default security group admits all traffic among its members. Here it has no rules and no members.
resource "aws_default_security_group" "unused" {
  count = local.make_vpc ? 1 : 0

  vpc_id = aws_vpc.main[0].id
}

resource "aws_internet_gateway" "main" {
  count = local.make_vpc ? 1 : 0

  vpc_id = aws_vpc.main[0].id

  tags = { Name = local.processor }
}

resource "aws_subnet" "public" {
  count = length(local.zones)

  vpc_id            = aws_vpc.main[0].id
  availability_zone = local.zones[count.index]
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, 8 + count.index)

  tags = { Name = "${local.processor}-public-${local.zones[count.index]}" }
}

resource "aws_subnet" "private" {
  count = length(local.zones)

  vpc_id            = aws_vpc.main[0].id
  availability_zone = local.zones[count.index]
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, count.index)

  tags = { Name = "${local.processor}-private-${local.zones[count.index]}" }
}

# Fixed addresses for a Snowflake network policy or the partner's firewall. They survive a replaced gateway.
resource "aws_eip" "nat" {
  count = local.nat_count

  domain = "vpc"

  tags = { Name = "${local.processor}-nat-${local.zones[count.index]}" }
}

resource "aws_nat_gateway" "main" {
  count = local.nat_count

  allocation_id = aws_eip.nat[count.index].id
  subnet_id     = aws_subnet.public[count.index].id

  tags = { Name = "${local.processor}-${local.zones[count.index]}" }

  depends_on = [aws_internet_gateway.main]
}

resource "aws_route_table" "public" {
  count = local.make_vpc ? 1 : 0

  vpc_id = aws_vpc.main[0].id

  tags = { Name = "${local.processor}-public" }
}

resource "aws_route" "internet" {
  count = local.make_vpc ? 1 : 0

  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.main[0].id
}

resource "aws_route_table_association" "public" {
  count = length(local.zones)

  subnet_id      = aws_subnet.public[count.index].id
  route_table_id = aws_route_table.public[0].id
}

resource "aws_route_table" "private" {
  count = length(local.zones)

  vpc_id = aws_vpc.main[0].id

  tags = { Name = "${local.processor}-private-${local.zones[count.index]}" }
}

resource "aws_route" "nat" {
  count = length(local.zones)

  route_table_id         = aws_route_table.private[count.index].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.main[var.nat_per_az ? count.index : 0].id
}

resource "aws_route_table_association" "private" {
  count = length(local.zones)

  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private[count.index].id
}

# The endpoint is free. Images come through it, because ECR stores their layers in S3, so they cause no NAT costs. It has no
# policy: the driver also fetches large results through it, from Snowflake's own buckets.
resource "aws_vpc_endpoint" "s3" {
  count = local.make_vpc ? 1 : 0

  vpc_id            = aws_vpc.main[0].id
  service_name      = "com.amazonaws.${var.aws_region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = aws_route_table.private[*].id

  tags = { Name = "${local.processor}-s3" }
}

# A task accepts no connections. It connects to Snowflake, AWS and the service by HTTPS. The VPC's resolver needs no rule.
resource "aws_security_group" "processor" {
  name        = local.processor
  description = "Tasks of ${local.processor}: nothing in, HTTPS out"
  vpc_id      = local.vpc_id

  tags = { Name = local.processor }
}

resource "aws_vpc_security_group_egress_rule" "https" {
  for_each = toset([for port in distinct([443, local.service_port]) : tostring(port)])

  security_group_id = aws_security_group.processor.id
  description       = each.key == "443" ? "HTTPS" : "The service"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = tonumber(each.key)
  to_port           = tonumber(each.key)
}
