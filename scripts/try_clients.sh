#!/usr/bin/env bash
# Insert an entry into the queue of the embedded stack with each client that README.md names, and read it back.
#
# Usage: scripts/try_clients.sh [CLIENT...]
#
#   CLIENT    connector-4, connector-5, write_pandas-4, write_pandas-5, sqlalchemy, snow, node or dbt; by default all of them
#
# Start the stack in another shell first, and read its variables:
#
#   .venv/bin/rowqueue local up --tick 2
#   source .local/env && scripts/try_clients.sh
#
# Each client is installed in the release that is named here, from PyPI or npm, in a folder of its own below
# .local/clients. Set PYTHON for another interpreter. node needs Node and npm.
#
# Exit code: 0 each client inserted one entry and found it, 1 one did not, 2 wrong arguments.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_wanted "$@"

(($#)) || set -- connector-4 connector-5 write_pandas-4 write_pandas-5 sqlalchemy snow node dbt
for name in "$@"; do
  case $name in
    connector-4 | connector-5 | write_pandas-4 | write_pandas-5 | sqlalchemy | snow | node | dbt) ;;
    *) misuse "unknown client '$name'" ;;
  esac
done
for name in HOST PORT PROTOCOL ACCOUNT USER PASSWORD DATABASE SCHEMA; do
  eval "[[ \${SNOWFLAKE_$name:-} ]]" || fail "no SNOWFLAKE_$name: run 'source .local/env' first"
done

folder=$root/.local/clients
mkdir -p "$folder"
suffix=$(date +%s)-$$

# install NAME PACKAGE...: a virtual environment with these packages. It is kept for the next run.
install() {
  local environment=$folder/$1
  shift
  [[ -x $environment/bin/python ]] || "${PYTHON:-python3}" -m venv "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check "$@" >&2
}

# Each Python client begins with this. The connection takes its settings from .local/env.
prelude='
import json, os, sys, warnings
warnings.simplefilter("ignore")
reference = sys.argv[1]
names = ("account", "user", "password", "database", "schema", "host", "protocol")
login = {name: os.environ["SNOWFLAKE_" + name.upper()] for name in names}
login["port"] = int(os.environ["SNOWFLAKE_PORT"])
data = json.dumps({"type": "order", "payload": {"order": 1}})
'

connector='
import snowflake.connector
snowflake.connector.paramstyle = "qmark"
with snowflake.connector.connect(**login) as session:
    cursor = session.cursor()
    cursor.execute_async("INSERT INTO PROCESSING_QUEUE (data, reference) VALUES (?, ?)", (data, reference))
    cursor.get_results_from_sfqid(cursor.sfqid)
    assert cursor.fetchall() == [(1,)]
    cursor.execute("SELECT 1; SELECT 2", num_statements=2)
    cursor.execute("SELECT COUNT(*) FROM PROCESSING_QUEUE WHERE reference = ?", (reference,))
    print(snowflake.connector.__version__, cursor.fetchone()[0])
'

write_pandas='
import pandas, snowflake.connector
from snowflake.connector.pandas_tools import write_pandas
rows = pandas.DataFrame({"DATA": [data], "REFERENCE": [reference]})
with snowflake.connector.connect(**login) as session:
    write_pandas(session, rows, "PROCESSING_QUEUE", quote_identifiers=False)
    found = session.cursor().execute("SELECT COUNT(*) FROM PROCESSING_QUEUE WHERE reference = %s", (reference,))
    print(snowflake.connector.__version__, found.fetchone()[0])
'

sqlalchemy='
import sqlalchemy as sa
from importlib.metadata import version
from snowflake.sqlalchemy import URL
apart = {name: login.pop(name) for name in ("host", "port", "protocol")}
engine = sa.create_engine(URL(**login), connect_args=apart)
queue = sa.Table("processing_queue", sa.MetaData(), autoload_with=engine)
with engine.begin() as session:
    session.execute(sa.insert(queue).values(data=data, reference=reference))
with engine.connect() as session:
    where = queue.c.reference == reference
    found = session.execute(sa.select(sa.func.count()).select_from(queue).where(where)).scalar_one()
print(sa.__version__ + " with snowflake-sqlalchemy " + version("snowflake-sqlalchemy"), found)
'

# shellcheck disable=SC2016  # the dollars are JavaScript's
node='
const sdk = require("snowflake-sdk");
sdk.configure({ logLevel: "OFF" });
const { env } = process, reference = process.argv[2];
const connection = sdk.createConnection({
  account: env.SNOWFLAKE_ACCOUNT, username: env.SNOWFLAKE_USER, password: env.SNOWFLAKE_PASSWORD,
  database: env.SNOWFLAKE_DATABASE, schema: env.SNOWFLAKE_SCHEMA, protocol: env.SNOWFLAKE_PROTOCOL,
  host: env.SNOWFLAKE_HOST, port: env.SNOWFLAKE_PORT,
  accessUrl: `${env.SNOWFLAKE_PROTOCOL}://${env.SNOWFLAKE_HOST}:${env.SNOWFLAKE_PORT}`,
});
const run = (sqlText, binds) => new Promise((done, failed) =>
  connection.execute({ sqlText, binds, complete: (error, _, rows) => (error ? failed(error) : done(rows)) }));
connection.connect(async (error) => {
  try {
    if (error) throw error;
    const data = JSON.stringify({ type: "order", payload: { order: 1 } });
    await run("INSERT INTO PROCESSING_QUEUE (data, reference) VALUES (?, ?)", [data, reference]);
    const rows = await run("SELECT COUNT(*) AS FOUND FROM PROCESSING_QUEUE WHERE reference = ?", [reference]);
    console.log(require("snowflake-sdk/package.json").version, rows[0].FOUND);
    process.exit(0);
  } catch (fault) { console.error(fault.message); process.exit(1); }
});
'

# client NAME REFERENCE: print the release of the client, and how many entries with the reference it found.
client() {
  local bin=$folder/$1/bin
  case $1 in
    connector-4) install "$1" "snowflake-connector-python==4.8.1" && "$bin/python" -c "$prelude$connector" "$2" ;;
    connector-5) install "$1" "snowflake-connector-python==5.2.0" && "$bin/python" -c "$prelude$connector" "$2" ;;
    write_pandas-4)
      install "$1" "snowflake-connector-python[pandas]==4.8.1" && "$bin/python" -c "$prelude$write_pandas" "$2"
      ;;
    write_pandas-5)
      install "$1" "snowflake-connector-python[pandas]==5.2.0" && "$bin/python" -c "$prelude$write_pandas" "$2"
      ;;
    sqlalchemy)
      install "$1" sqlalchemy==2.1.9 snowflake-sqlalchemy==2.1.0 && "$bin/python" -c "$prelude$sqlalchemy" "$2"
      ;;
    snow) install "$1" snowflake-cli==3.30.0 && with_snow "$bin/snow" "$2" ;;
    node)
      mkdir -p "$folder/node" && cd "$folder/node"
      npm install --silent --no-audit --no-fund snowflake-sdk@3.3.0 >&2 && node -e "$node" - "$2"
      ;;
    dbt) install "$1" dbt-core==1.9.11 dbt-snowflake==1.9.4 && with_dbt "$folder/$1" "$2" ;;
  esac
}

# A model with a post_hook that inserts the entry.
with_dbt() {
  local project=$1/project
  mkdir -p "$project/models"
  printf 'name: orders\nprofile: queue\n' >"$project/dbt_project.yml"
  cat >"$project/profiles.yml" <<'YAML'
queue:
  target: local
  outputs:
    local:
      type: snowflake
      account: "{{ env_var('SNOWFLAKE_ACCOUNT') }}"
      user: "{{ env_var('SNOWFLAKE_USER') }}"
      password: "{{ env_var('SNOWFLAKE_PASSWORD') }}"
      host: "{{ env_var('SNOWFLAKE_HOST') }}"
      port: "{{ env_var('SNOWFLAKE_PORT') | int }}"
      protocol: "{{ env_var('SNOWFLAKE_PROTOCOL') }}"
      database: "{{ env_var('SNOWFLAKE_DATABASE') }}"
      schema: "{{ env_var('SNOWFLAKE_SCHEMA') }}"
YAML
  cat >"$project/models/tried_orders.sql" <<'SQL'
{{ config(materialized='table', post_hook="INSERT INTO PROCESSING_QUEUE (data, reference)
   SELECT TO_JSON(OBJECT_CONSTRUCT('order', order_id)), '" ~ var('reference') ~ "' FROM " ~ this) }}
SELECT 1 AS order_id
SQL
  (cd "$project" && DBT_SEND_ANONYMOUS_USAGE_STATS=false "$1/bin/dbt" run --vars "{reference: $2}") >&2
  (
    cd "$project"
    DBT_SEND_ANONYMOUS_USAGE_STATS=false "$1/bin/dbt" --quiet show --output json --inline \
      "SELECT COUNT(*) AS found FROM PROCESSING_QUEUE WHERE reference = '$2'" --vars "{reference: $2}"
  ) >"$project/found.json"
  printf '%s %s\n' "1.9.11 with dbt-snowflake 1.9.4" "$(grep -i '"found"' "$project/found.json" | tr -dc '0-9')"
}

with_snow() {
  local snow=$1 config=$folder/snow/config.toml found
  (
    umask 077
    printf '[connections.queue]\naccount = "%s"\nuser = "%s"\npassword = "%s"\ndatabase = "%s"\nschema = "%s"\n' \
      "$SNOWFLAKE_ACCOUNT" "$SNOWFLAKE_USER" "$SNOWFLAKE_PASSWORD" "$SNOWFLAKE_DATABASE" "$SNOWFLAKE_SCHEMA" >"$config"
    # shellcheck disable=SC2153  # .local/env has it
    printf 'host = "%s"\nport = "%s"\nprotocol = "%s"\n' \
      "$SNOWFLAKE_HOST" "$SNOWFLAKE_PORT" "$SNOWFLAKE_PROTOCOL" >>"$config"
  )
  "$snow" --config-file "$config" sql --connection queue --silent --query \
    "INSERT INTO PROCESSING_QUEUE (data, reference) VALUES ('{\"type\": \"order\"}', '$2')" >&2
  found=$("$snow" --config-file "$config" sql --connection queue --silent --format json --query \
    "SELECT COUNT(*) AS found FROM PROCESSING_QUEUE WHERE reference = '$2'")
  printf '%s %s\n' "$("$snow" --version | tr -dc '0-9.')" "$(printf '%s' "$found" | tr -dc '0-9')"
}

failed=0
for name in "$@"; do
  log=$folder/$name.log
  if line=$(client "$name" "$name-$suffix" 2>"$log") && [[ ${line##* } == 1 ]]; then
    printf '%s %s: one entry inserted and found\n' "$name" "${line% *}"
  else
    printf '%s: failed, see %s\n' "$name" "$log" >&2
    failed=1
  fi
done
exit "$failed"
