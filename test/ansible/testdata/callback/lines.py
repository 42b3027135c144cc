"""Prints the result of each task as a line of JSON, for tests to read."""

import json

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "lines"

    def _tell(self, result, **verdict):
        line = dict(result._result, task=result.task_name, host=result._host.get_name(), **verdict)
        self._display.display(json.dumps(line, default=str))

    def v2_runner_on_ok(self, result):
        self._tell(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._tell(result, failed=True)

    def v2_runner_on_unreachable(self, result):
        self._tell(result, failed=True, unreachable=True)
