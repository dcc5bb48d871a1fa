terraform {
  # 1.11 has write-only arguments, which keep the secrets out of plan and state.
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}

# The lock file has the hash of the provider for linux_amd64. On other platforms, add theirs first:
# terraform providers lock -platform=linux_amd64 -platform=linux_arm64 -platform=darwin_arm64 -platform=windows_amd64
provider "aws" {
  region = var.aws_region

  default_tags {
    tags = local.tags
  }
}
