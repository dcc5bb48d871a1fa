"""Functions that really run, as boto3 sees them."""

from __future__ import annotations

import base64
import json
import threading

import pytest
from botocore.exceptions import ClientError

COUNTING = """
count = 0
def handler(event, context):
    global count
    count += 1
    return {"count": count, "event": event}
"""

# Appends the request id to the file that the event names, then does what the event says.
NOTING = """
import pathlib, time
def handler(event, context):
    with open(event["file"], "a") as file:
        print(context.aws_request_id, file=file)
    while "until" in event and not pathlib.Path(event["until"]).exists():
        time.sleep(0.01)
    if event.get("fail"):
        raise RuntimeError("on request")
"""


@pytest.fixture(scope="module")
def functions(stand_in):
    return stand_in.client("lambda")


@pytest.fixture(scope="module")
def counting(stand_in):
    return stand_in.create_function(COUNTING)


def noted(file):
    return file.read_text().split() if file.exists() else []


# What a function gets.


def test_a_handler_gets_the_event_and_its_answer_comes_back(stand_in, counting):
    reply = stand_in.invoke(counting, {"rows": [1, None, "ü"]})
    assert reply["Payload"]["event"] == {"rows": [1, None, "ü"]}
    assert (reply["StatusCode"], reply["ExecutedVersion"]) == (200, "$LATEST")
    assert "FunctionError" not in reply


def test_no_payload_is_an_empty_event(functions, counting):
    assert json.loads(functions.invoke(FunctionName=counting)["Payload"].read())["event"] == {}


def test_the_environment_is_that_of_the_function_and_of_lambda_and_nothing_else(stand_in):
    name = stand_in.create_function(
        "import os\ndef handler(event, context):\n    return dict(os.environ)",
        Environment={"Variables": {"DEPLOYED": "deployed", "AWS_REGION": "not yours"}},
        MemorySize=256,
    )
    environment = stand_in.invoke(name)["Payload"]
    for path in ("HOME", "TMPDIR", "LAMBDA_TASK_ROOT", "PYTHONPATH"):
        assert environment.pop(path).startswith(str(stand_in.state)), "below the state directory"
    assert "/[$LATEST]" in environment.pop("AWS_LAMBDA_LOG_STREAM_NAME")
    environment.pop("PATH")
    assert environment == {
        "LANG": "C.UTF-8",
        "TZ": ":UTC",
        "AWS_ENDPOINT_URL": stand_in.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "_HANDLER": "index.handler",
        "PLATFORM": "injected",
        "DEPLOYED": "deployed",
    }


def test_the_context_tells_who_is_invoked_and_how_long_is_left(stand_in):
    name = stand_in.create_function(
        "def handler(event, context):\n"
        "    known = {name: value for name, value in vars(context).items() if not name.startswith('_')}\n"
        "    return known | {'left': context.get_remaining_time_in_millis()}",
        Timeout=20,
    )
    reply = stand_in.invoke(name)
    context = reply["Payload"]
    assert context["function_name"] == name
    assert context["invoked_function_arn"] == f"arn:aws:lambda:eu-west-1:123456789012:function:{name}"
    assert context["memory_limit_in_mb"] == "128"
    assert context["aws_request_id"] == reply["ResponseMetadata"]["RequestId"]
    assert 15_000 < context["left"] <= 20_000


def test_what_the_zip_contains_comes_before_what_is_installed_here(stand_in):
    name = stand_in.create_function(
        {
            "index.py": "import rowqueue, boto3\ndef handler(event, context):\n    return rowqueue.WHOSE",
            "rowqueue/__init__.py": "WHOSE = 'the zip'",
        }
    )
    assert stand_in.invoke(name)["Payload"] == "the zip"


def test_the_stand_in_s_own_modules_hide_none_of_the_same_name(stand_in):
    name = stand_in.create_function(
        "import importlib.util\n"
        "def handler(event, context):\n"
        "    return [name for name in ('scheduler', 'processes', 'aws') if importlib.util.find_spec(name)]"
    )
    assert stand_in.invoke(name)["Payload"] == []


def test_a_handler_may_be_in_a_package(stand_in):
    code = {"poller/__init__.py": "", "poller/entry.py": "def run(event, context):\n    return 'here'"}
    name = stand_in.create_function(code, Handler="poller/entry.run")
    assert stand_in.invoke(name)["Payload"] == "here"


# Execution environments.


def test_a_warm_function_keeps_the_state_of_its_module(stand_in):
    name = stand_in.create_function(COUNTING)
    assert [stand_in.invoke(name)["Payload"]["count"] for _ in range(3)] == [1, 2, 3]


def test_a_new_configuration_and_new_code_get_a_new_environment(stand_in, functions):
    name = stand_in.create_function(COUNTING)
    stand_in.invoke(name)
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": {"LIMIT": "7"}})
    assert stand_in.invoke(name)["Payload"]["count"] == 1
    functions.update_function_code(FunctionName=name, ZipFile=stand_in.zipped(COUNTING.replace("+= 1", "+= 100")))
    assert stand_in.invoke(name)["Payload"]["count"] == 100


def test_code_may_come_from_a_bucket(stand_in):
    s3 = stand_in.client("s3")
    s3.create_bucket(Bucket="artifacts", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="artifacts", Key="poller.zip", Body=stand_in.zipped(COUNTING))
    name = stand_in.create_function("", Code={"S3Bucket": "artifacts", "S3Key": "poller.zip"})
    assert stand_in.invoke(name)["Payload"]["count"] == 1


def test_concurrent_invocations_run_side_by_side(stand_in, tmp_path):
    meeting = (
        "import pathlib, time\n"
        "def handler(event, context):\n"
        "    pathlib.Path(event['file']).mkdir()\n"
        "    while not pathlib.Path(event['other']).exists():\n"
        "        time.sleep(0.01)"
    )
    name = stand_in.create_function(meeting, Timeout=10)
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    other = threading.Thread(target=stand_in.invoke, args=(name, {"file": two, "other": one}))
    other.start()
    assert "FunctionError" not in stand_in.invoke(name, {"file": one, "other": two})
    other.join()


def test_versions_and_aliases_are_run_as_they_were_published(stand_in, functions):
    name = stand_in.create_function("def handler(event, context):\n    return [1, context.invoked_function_arn]")
    functions.publish_version(FunctionName=name)
    functions.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    newer = stand_in.zipped("def handler(event, context):\n    return [2, context.invoked_function_arn]")
    functions.update_function_code(FunctionName=name, ZipFile=newer)
    arn = f"arn:aws:lambda:eu-west-1:123456789012:function:{name}"
    assert stand_in.invoke(name)["Payload"] == [2, arn]
    assert stand_in.invoke(arn)["Payload"] == [2, arn]
    assert stand_in.invoke(f"123456789012:function:{name}")["Payload"] == [2, arn]
    assert stand_in.invoke(f"{arn}:live")["Payload"] == [1, f"{arn}:live"]
    by_qualifier = stand_in.invoke(name, Qualifier="1")
    assert by_qualifier["Payload"] == [1, f"{arn}:1"]
    assert by_qualifier["ExecutedVersion"] == "1"


# Failures.


def test_an_exception_is_answered_with_its_type_and_its_trace(stand_in):
    name = stand_in.create_function("def handler(event, context):\n    raise KeyError('rows')")
    reply = stand_in.invoke(name)
    assert (reply["StatusCode"], reply["FunctionError"]) == (200, "Unhandled")
    assert reply["Payload"]["errorMessage"] == "'rows'"
    assert reply["Payload"]["errorType"] == "KeyError"
    [frame] = reply["Payload"]["stackTrace"]
    assert "in handler" in frame, "the function's own frames, not the runtime's"


def test_a_function_stays_warm_after_an_exception(stand_in):
    name = stand_in.create_function(
        "seen = []\ndef handler(event, context):\n    seen.append(1)\n    assert len(seen) > 1"
    )
    assert stand_in.invoke(name)["FunctionError"] == "Unhandled"
    assert "FunctionError" not in stand_in.invoke(name)


@pytest.mark.parametrize(
    ("code", "handler", "error", "message"),
    [
        ("import nothing_like_it", "index.handler", "Runtime.ImportModuleError", "Unable to import module 'index'"),
        ("", "other.handler", "Runtime.ImportModuleError", "No module named 'other'"),
        ("", "index.missing", "Runtime.HandlerNotFound", "Handler 'missing' missing on module 'index'"),
        ("", "index", "Runtime.MalformedHandlerName", "Bad handler 'index'"),
        ("def handler(:", "index.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'index'"),
        ("raise RuntimeError('no table')", "index.handler", "RuntimeError", "no table"),
        ("def handler(*_):\n    return {1, 2}", "index.handler", "Runtime.MarshalError", "not JSON serializable"),
        ("import os\ndef handler(*_):\n    os._exit(3)", "index.handler", "Runtime.ExitError", "exit status 3"),
        ("import sys\nsys.exit(4)", "index.handler", "Runtime.ExitError", "exit status 4"),
    ],
)
def test_an_error_has_the_name_that_lambda_gives_it(stand_in, code, handler, error, message):
    reply = stand_in.invoke(stand_in.create_function(code, Handler=handler))
    assert reply["FunctionError"] == "Unhandled"
    assert reply["Payload"]["errorType"] == error
    assert message in reply["Payload"]["errorMessage"]


def test_a_function_that_takes_too_long_is_killed(stand_in):
    name = stand_in.create_function(
        "import time\ndef handler(event, context):\n    time.sleep(event.get('seconds', 0))\n    return 'awake'",
        Timeout=1,
    )
    reply = stand_in.invoke(name, {"seconds": 30})
    assert reply["FunctionError"] == "Unhandled"
    assert reply["Payload"]["errorMessage"].endswith(" Task timed out after 1.00 seconds")
    assert stand_in.invoke(name)["Payload"] == "awake", "the next one gets a new environment"


def test_an_unknown_function_is_not_found(stand_in, functions, counting):
    with pytest.raises(functions.exceptions.ResourceNotFoundException, match="Function not found: nothing"):
        stand_in.invoke("nothing")
    with pytest.raises(functions.exceptions.ResourceNotFoundException):
        stand_in.invoke(counting, Qualifier="nothing")


def test_a_payload_that_is_not_json_is_refused(functions, counting):
    with pytest.raises(functions.exceptions.InvalidRequestContentException):
        functions.invoke(FunctionName=counting, Payload=b"{")


def test_code_that_is_no_zip_cannot_be_invoked(stand_in, functions):
    s3 = stand_in.client("s3")
    s3.create_bucket(Bucket="broken", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="broken", Key="poller.zip", Body=b"not a zip")
    name = stand_in.create_function("", Code={"S3Bucket": "broken", "S3Key": "poller.zip"})
    with pytest.raises(functions.exceptions.InvalidZipFileException):
        stand_in.invoke(name)


# Reserved concurrency.


def test_no_reserved_concurrency_at_all_switches_a_function_off(stand_in, functions):
    name = stand_in.create_function(COUNTING)
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    with pytest.raises(functions.exceptions.TooManyRequestsException) as caught:
        stand_in.invoke(name)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    functions.delete_function_concurrency(FunctionName=name)
    assert stand_in.invoke(name)["Payload"]["count"] == 1


def test_one_reserved_execution_means_one_at_a_time_and_an_event_waits_for_it(stand_in, functions, tmp_path):
    name, file = stand_in.create_function(NOTING, Timeout=10), tmp_path / "noted"
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    event = {"file": str(file), "until": str(tmp_path / "released")}
    stand_in.invoke(name, event, InvocationType="Event")
    stand_in.eventually(lambda: noted(file))
    with pytest.raises(functions.exceptions.TooManyRequestsException, match="Rate Exceeded"):
        stand_in.invoke(name, event)
    stand_in.invoke(name, event, InvocationType="Event")
    assert len(noted(file)) == 1
    (tmp_path / "released").touch()
    stand_in.eventually(lambda: len(noted(file)) == 2)


# Asynchronous invocations.


def test_an_event_is_accepted_at_once_and_run_then(stand_in, tmp_path):
    file = tmp_path / "noted"
    reply = stand_in.invoke(stand_in.create_function(NOTING), {"file": str(file)}, InvocationType="Event")
    assert (reply["StatusCode"], reply["Payload"]) == (202, None)
    assert stand_in.eventually(lambda: noted(file)) == [reply["ResponseMetadata"]["RequestId"]]


@pytest.mark.parametrize(("attempts", "runs"), [(None, 3), (0, 1)])
def test_an_event_that_fails_is_tried_again_as_often_as_configured(stand_in, functions, tmp_path, attempts, runs):
    name, file = stand_in.create_function(NOTING), tmp_path / "noted"
    if attempts is not None:
        functions.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=attempts)
    reply = stand_in.invoke(name, {"file": str(file), "fail": True}, InvocationType="Event")
    ids = stand_in.eventually(lambda: len(noted(file)) == runs and noted(file))
    assert set(ids) == {reply["ResponseMetadata"]["RequestId"]}, "an attempt has the id of the first"
    with pytest.raises(AssertionError):
        stand_in.eventually(lambda: len(noted(file)) > runs, within=1.3)


def test_a_dry_run_checks_and_runs_nothing(stand_in, functions, tmp_path):
    file = tmp_path / "noted"
    reply = stand_in.invoke(stand_in.create_function(NOTING), {"file": str(file)}, InvocationType="DryRun")
    assert reply["StatusCode"] == 204
    assert noted(file) == []
    with pytest.raises(functions.exceptions.ResourceNotFoundException):
        stand_in.invoke("nothing", InvocationType="DryRun")


# Logs.


def test_what_a_function_prints_is_in_its_log_between_start_and_report(stand_in):
    name = stand_in.create_function(
        "import logging, sys\n"
        "def handler(event, context):\n"
        "    print('to stdout')\n"
        "    print('to stderr', file=sys.stderr)\n"
        "    logging.getLogger('poller').warning('by logging')"
    )
    request_id = stand_in.invoke(name)["ResponseMetadata"]["RequestId"]
    lines = stand_in.eventually(lambda: logged(stand_in, name))
    assert lines[0] == f"START RequestId: {request_id} Version: $LATEST"
    assert lines[1:3] == ["to stdout", "to stderr"]
    assert lines[3].startswith("[WARNING]\t")
    assert lines[3].endswith("Z\tby logging")
    assert lines[4] == f"END RequestId: {request_id}"
    assert lines[5].startswith(f"REPORT RequestId: {request_id}\tDuration: ")
    assert "\tMemory Size: 128 MB\tMax Memory Used: " in lines[5]
    assert "\tInit Duration: " in lines[5]


def test_an_error_is_in_the_log(stand_in):
    name = stand_in.create_function("def handler(event, context):\n    raise ValueError('boom')")
    stand_in.invoke(name)
    lines = stand_in.eventually(lambda: logged(stand_in, name))
    assert "[ERROR] ValueError: boom" in lines
    assert "Traceback (most recent call last):" in lines


def test_the_tail_of_the_log_comes_with_the_answer_where_asked(stand_in, counting):
    talking = stand_in.create_function("def handler(event, context):\n    print('x' * 5000)\n    print('last words')")
    tail = base64.b64decode(stand_in.invoke(talking, LogType="Tail")["LogResult"])
    assert len(tail) == 4096
    assert b"\nlast words\nEND RequestId: " in tail
    assert "LogResult" not in stand_in.invoke(counting)


def logged(stand_in, name):
    try:
        return stand_in.logged(f"/aws/lambda/{name}")
    except ClientError:
        return []
