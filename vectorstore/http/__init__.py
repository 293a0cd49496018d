"""The HTTP service: `create_app(store)` is an ASGI application, `vectorstore serve STORE` runs it.

Needs the extra `http`; nothing of it is imported by `import vectorstore`.
"""

from vectorstore.http.app import create_app
from vectorstore.http.service import Limits

__all__ = ["Limits", "create_app"]
