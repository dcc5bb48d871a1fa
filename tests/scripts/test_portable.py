"""The scripts and the Makefile run on macOS: bash 3.2 and the BSD tools. shellcheck assumes a newer bash."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))

# Bash, CHANGES: features of version 4.0 and newer.
NEWER_THAN_BASH_3_2 = {
    "mapfile, readarray": r"\b(mapfile|readarray)\b",
    "an associative array or a reference": r"\b(declare|local|typeset|readonly) +-[a-zA-Z]*[AnGgu]",
    "a change of case": r"\$\{\w+(\[[^]]*\])?(,|\^)",
    "a transformation": r"\$\{\w+(\[[^]]*\])?@[A-Za-z]\}",
    "both outputs in one redirection": r"&>>|\|&",
    "a fall-through of case": r";;?&",
    "coproc": r"\bcoproc\b",
    "a test for a variable": r"\[\[ +(! +)?-[vR] ",
    "a time format of printf": r"printf +(-v \w+ +)?['\"][^'\"]*%\([^)]*\)T",
    "wait -n": r"\bwait +-[a-z]*n",
    "the last element of an array": r"\$\{\w+\[ *-",
    "a negative length of a substring": r"\$\{\w+:[^}:]*:-\d",
    "a new option of shopt": r"shopt +-s +\w*(globstar|lastpipe|inherit_errexit|autocd)",
    "a new variable": r"\$\{?(BASHPID|EPOCHSECONDS|EPOCHREALTIME|SRANDOM|BASH_ARGV0)\b",
    "a file descriptor in a variable": r"\bexec +\{\w+\}",
    # With `set -e` a program that fails ends the script, even in a condition. Write env.
    "command with a program": r"\bcommand +(?!-v)[\w\"$]",
    # With `set -u` an empty array is an unbound variable up to bash 4.3. Write ${name[@]+"${name[@]}"}.
    "an array that may be empty": r"(?<!\+)\"\$\{(?!(?:tf_arguments|arguments|shown|target)\b)\w+\[[@*]\]\}\"(?!\})",
}
# Options that GNU's tools have and BSD's do not, or that mean something else there.
ONLY_GNU = {
    "sed": r"\bsed +(-\w* +)*(-i|-r|-z|--\w)",
    "find": r"\bfind\b.* -(printf|regextype|readable|executable|size \+?\d+[MG]\b)",
    "date": r"\bdate +(-\w* +)*(-d|--\w|-I|[^#\n]*%N)",
    "readlink, realpath": r"\breadlink +-[fem]|\brealpath\b",
    "mktemp": r"\bmktemp +[^|;)]*(--\w|-p |-t )",
    "xargs": r"\bxargs +([^|]* )?(-r|-d|--\w)",
    "stat": r"\bstat +(-c|--\w)",
    "grep": r"\bgrep +(-\w*P|--perl)",
    "cp": r"\bcp +([^|]* )?(-a\w*|--\w|-t )",
    "head, tail": r"\bhead +-n +-|\bhead +-c +-",
    "sort": r"\bsort +(-\w* +)*-\w*[Vh]",
    "tools that macOS does not have": r"\b(timeout|nproc|tac|shuf|sha256sum|md5sum|numfmt|getent|flock|setsid)\b",
}


def lines_of(path):
    """The numbered lines of a script or of a Makefile without comments."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.lstrip().startswith("#"):
            yield number, re.sub(r"\s#\s.*", "", line)


def found(path, patterns):
    return [
        f"{path.name}:{number}: {what}: {line.strip()}"
        for number, line in lines_of(path)
        for what, pattern in patterns.items()
        if re.search(pattern, line)
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_uses_no_feature_that_bash_3_2_lacks(script):
    assert found(script, NEWER_THAN_BASH_3_2) == []


@pytest.mark.parametrize("path", [*SCRIPTS, ROOT / "Makefile"], ids=lambda path: path.name)
def test_no_tool_gets_an_option_that_only_gnu_has(path):
    assert found(path, ONLY_GNU) == []


def test_the_recipes_of_the_makefile_need_no_bash():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "SHELL" not in text
    assert not re.search(r"^\t.*(\[\[ |<<<|<\()", text, re.MULTILINE)


@pytest.mark.parametrize(
    "line",
    [
        "mapfile -t names < file",
        "local -A by_name",
        "declare -n other=$1",
        'echo "${name,,}"',
        'echo "${name^}"',
        'echo "${name@Q}"',
        "make &>> log",
        "make |& tee log",
        "a) one ;;&",
        "[[ -v name ]]",
        "printf '%(%s)T' -1",
        "wait -n",
        'echo "${names[-1]}"',
        'echo "${name:1:-1}"',
        "shopt -s globstar",
        'run "${options[@]}"',
        'aws() { command aws "$@"; }',
    ],
)
def test_a_feature_that_bash_3_2_lacks_is_found(tmp_path, line):
    (tmp_path / "script.sh").write_text(f"{line}\n")
    assert len(found(tmp_path / "script.sh", NEWER_THAN_BASH_3_2)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "sed -i s/a/b/ file",
        "sed -n -r 's/(a)/b/p' file",
        "find . -name x -printf %p",
        "date -d yesterday",
        "readlink -f file",
        "mktemp -d -t name.XXXX",
        "xargs -r rm",
        "stat -c %s file",
        "grep -oP 'a' file",
        "cp -a one two",
        "sort -V",
        "nproc",
    ],
)
def test_an_option_that_only_gnu_has_is_found(tmp_path, line):
    (tmp_path / "script.sh").write_text(f"{line}\n")
    assert len(found(tmp_path / "script.sh", ONLY_GNU)) == 1


@pytest.mark.parametrize(
    "line",
    [
        'run ${options[@]+"${options[@]}"}',
        'for word in "$@"; do',
        "((${#names[@]} == 2))",
        "sed -n '1s/^v//p'",
        "date -u +%Y%m%dT%H%M%SZ",
        'folder="$(mktemp -d)"',
        "xargs -n 100",
        "command -v docker > /dev/null",
        'say "it was run by a command"',
        "cp -R one two",
        'wait "$process"',
    ],
)
def test_a_portable_line_is_accepted(tmp_path, line):
    (tmp_path / "script.sh").write_text(f"{line}\n")
    assert found(tmp_path / "script.sh", NEWER_THAN_BASH_3_2 | ONLY_GNU) == []
