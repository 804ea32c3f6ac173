# MuJoCo's bindings are compiled and come without type stubs: every name of the module is Any.
from typing import Any

def __getattr__(name: str) -> Any: ...
