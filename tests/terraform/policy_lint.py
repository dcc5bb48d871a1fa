"""What parliament finds in IAM policies: unknown actions, resources that an action does not know, unknown conditions.

Run by the interpreter of .venv-terraform, whose libraries clash with ours: reads a JSON object of policies by name from
standard input and writes one of findings by name.
"""

import json
import sys

import parliament

found = {}
for name, policy in json.load(sys.stdin).items():
    analyzed = parliament.analyze_policy_string(policy)
    found[name] = [f"{finding.issue}: {finding.detail} {finding.location}" for finding in analyzed.findings]
json.dump(found, sys.stdout)
