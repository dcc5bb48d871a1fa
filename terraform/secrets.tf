# The secrets with the Snowflake login (not needed with workload identity) and with the client key's passphrase, if it has
# one. Their content is write-only: neither state nor plan contains it, so Terraform cannot see a change.

resource "aws_secretsmanager_secret" "snowflake" {
  count = var.snowflake_authentication == "workload_identity" ? 0 : 1

  name                    = "${var.environment}-snowflake-credentials"
  description             = "Snowflake user of ${local.poller} and ${local.processor}"
  recovery_window_in_days = var.secret_recovery_days
}

locals {
  # Settings that are secrets, and the variable that puts each into Secrets Manager.
  variables_of_secrets = {
    SNOWFLAKE_PASSWORD               = "snowflake_password"
    SNOWFLAKE_PRIVATE_KEY            = "snowflake_private_key"
    SNOWFLAKE_PRIVATE_KEY_PASSPHRASE = "snowflake_private_key_passphrase"
    CLIENT_KEY_PASSPHRASE            = "client_key_passphrase"
  }

  # The content is written when this number changes: with snowflake_secret_version, and with the parts that are not secret.
  secret_edition = parseint(substr(sha256(jsonencode([
    var.snowflake_secret_version, var.snowflake_authentication, var.snowflake_user, var.snowflake_private_key_encrypted
  ])), 0, 7), 16)

  secret_content = {
    key_pair = var.snowflake_private_key == null ? null : merge(
      { username = var.snowflake_user, private_key = var.snowflake_private_key },
      var.snowflake_private_key_encrypted ? { private_key_passphrase = var.snowflake_private_key_passphrase } : {},
    )
    password = var.snowflake_password == null ? null : {
      username = var.snowflake_user, password = var.snowflake_password
    }
  }
}

resource "aws_secretsmanager_secret_version" "snowflake" {
  count = length(aws_secretsmanager_secret.snowflake)

  secret_id                = aws_secretsmanager_secret.snowflake[0].id
  secret_string_wo_version = local.secret_edition

  # A person who changes something else need not have the key: nothing is written then. If the content has to be written
  # and there is no key, AWS refuses the empty string (at least one character), and the secret keeps its content.
  secret_string_wo = try(jsonencode(coalesce(local.secret_content[var.snowflake_authentication])), "")
}

# A secret of its own, because the poller does not need it.
resource "aws_secretsmanager_secret" "client_key" {
  count = var.client_key_encrypted ? 1 : 0

  name                    = "${var.environment}-snowflake-client-key-passphrase"
  description             = "Passphrase of ${local.processor}'s client-key.pem"
  recovery_window_in_days = var.secret_recovery_days
}

resource "aws_secretsmanager_secret_version" "client_key" {
  count = length(aws_secretsmanager_secret.client_key)

  secret_id                = aws_secretsmanager_secret.client_key[0].id
  secret_string_wo_version = var.client_key_secret_version
  secret_string_wo         = var.client_key_passphrase == null ? "" : var.client_key_passphrase # "" as above
}
