# The bucket for <environment>/client.pem, client-key.pem and ca-cert.pem. A person uploads them; Terraform never reads them.

resource "aws_s3_bucket" "certificates" {
  bucket = coalesce(var.certificate_bucket, "${local.processor}-certs")
}

resource "aws_s3_bucket_versioning" "certificates" {
  bucket = aws_s3_bucket.certificates.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "certificates" {
  bucket = aws_s3_bucket.certificates.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_ownership_controls" "certificates" {
  bucket = aws_s3_bucket.certificates.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "certificates" {
  bucket = aws_s3_bucket.certificates.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# Versions allow a rollback after a wrong upload. A replaced key is deleted after 30 days.
resource "aws_s3_bucket_lifecycle_configuration" "certificates" {
  bucket = aws_s3_bucket.certificates.id

  rule {
    id     = "replaced"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = 30
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.certificates]
}

resource "aws_s3_bucket_policy" "certificates" {
  bucket = aws_s3_bucket.certificates.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyByTLS"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.certificates.arn, "${aws_s3_bucket.certificates.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  # The access block checks each new policy, so it has to exist first.
  depends_on = [aws_s3_bucket_public_access_block.certificates]
}

# The bucket for the poller's lease, one small object that says which tick launches. It has no versions, and nothing in it
# is needed for longer than minutes.

resource "aws_s3_bucket" "lease" {
  #checkov:skip=CKV_AWS_21:Each version of the lease replaces the one before, and nobody reads an old one.
  bucket        = coalesce(var.lease_bucket, "${local.poller}-lease")
  force_destroy = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "lease" {
  bucket = aws_s3_bucket.lease.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_ownership_controls" "lease" {
  bucket = aws_s3_bucket.lease.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "lease" {
  bucket = aws_s3_bucket.lease.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "lease" {
  bucket = aws_s3_bucket.lease.id

  rule {
    id     = "unused"
    status = "Enabled"

    filter {}

    expiration {
      days = 1
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

resource "aws_s3_bucket_policy" "lease" {
  bucket = aws_s3_bucket.lease.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyByTLS"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.lease.arn, "${aws_s3_bucket.lease.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  # The access block checks each new policy, so it has to exist first.
  depends_on = [aws_s3_bucket_public_access_block.lease]
}
