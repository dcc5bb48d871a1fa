terraform {
  # 1.11 brought write-only arguments: the credentials secret reaches neither plan nor state.
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}

# The lock file knows the provider's package for linux_amd64. Elsewhere Terraform refuses it until its own is added:
# terraform providers lock -platform=linux_amd64 -platform=linux_arm64 -platform=darwin_arm64 -platform=windows_amd64
provider "aws" {
  region = var.aws_region

  default_tags {
    tags = local.tags
  }
}
