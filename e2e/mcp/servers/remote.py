"""A server of tools behind a URL, made with the official package: `remote.py streamable-http|sse PORT`. It refuses
requests without the right key."""

import sys

import uvicorn
from mcp.server.mcpserver import MCPServer
from starlette.responses import PlainTextResponse

KEY = "Bearer remote-key-1234567890"
server = MCPServer("remote")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class OnlyWithKey:
    """ASGI middleware; the library's own would want a whole OAuth server."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and dict(scope["headers"]).get(b"authorization") != KEY.encode():
            return await PlainTextResponse("no", 401)(scope, receive, send)
        await self.app(scope, receive, send)


kind, port = sys.argv[1], int(sys.argv[2])
app = server.streamable_http_app() if kind == "streamable-http" else server.sse_app()
uvicorn.run(OnlyWithKey(app), host="127.0.0.1", port=port, log_level="warning")
