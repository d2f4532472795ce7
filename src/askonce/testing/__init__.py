"""Tools for tests of programs that use askonce, used by askonce's own tests too; none of them is a mock.

`Provider` is a scripted upstream over HTTP, `ScriptedCall` the same without a network. `Receipts` counts paid calls
across processes. `ValkeyServer` and `RedisServer` start real servers. Nothing else in askonce imports this package.
"""

from askonce.testing.answers import Shape, answer, question_of
from askonce.testing.call import ScriptedCall, UpstreamError
from askonce.testing.provider import Provider, Received
from askonce.testing.script import Delay, Lognormal, Receipt, Receipts, Step
from askonce.testing.servers import RedisServer, ServerMissing, ValkeyServer

__all__ = [
    "Delay",
    "Lognormal",
    "Provider",
    "Receipt",
    "Receipts",
    "Received",
    "RedisServer",
    "ScriptedCall",
    "ServerMissing",
    "Shape",
    "Step",
    "UpstreamError",
    "ValkeyServer",
    "answer",
    "question_of",
]
