"""Check IAM policies with parliament: unknown actions, resources that an action does not accept, unknown conditions.

The interpreter of .venv-terraform runs this, because its libraries conflict with ours. It reads a JSON object of
policies by name from standard input, and writes a JSON object of findings by name.
"""

import json
import sys

import parliament

found = {}
for name, policy in json.load(sys.stdin).items():
    analyzed = parliament.analyze_policy_string(policy)
    found[name] = [f"{finding.issue}: {finding.detail} {finding.location}" for finding in analyzed.findings]
json.dump(found, sys.stdout)
