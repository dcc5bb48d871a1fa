"""snowflake/optional_push.sql grants what its statements need."""

from __future__ import annotations

import re
from pathlib import Path

SCRIPT = (Path(__file__).parents[2] / "snowflake" / "optional_push.sql").read_text()


def test_the_owner_of_the_push_task_gets_the_privileges_that_the_task_needs():
    before, task = SCRIPT.split("CREATE TASK ")
    (owner,) = re.findall(r"^USE ROLE (\w+);", before, re.MULTILINE)
    given = set(re.findall(rf"^GRANT (.+ ON .+) TO ROLE {owner};$", before.partition("USE ROLE")[0], re.MULTILINE))
    (integration,) = re.findall(r"SNOWFLAKE.NOTIFICATION.INTEGRATION\('(\w+)'\)", task)
    assert "WAREHOUSE =" not in task, "without a warehouse it is a managed task"
    assert given == {
        "EXECUTE TASK ON ACCOUNT",
        "EXECUTE MANAGED TASK ON ACCOUNT",
        f"USAGE ON INTEGRATION {integration}",
    }
