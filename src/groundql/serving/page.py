"""The web page: one HTML file of this package, with a nonce of its own each time it is sent."""

import functools
import secrets
from pathlib import Path

from starlette.responses import HTMLResponse, Response

PAGE_PATH = Path(__file__).with_name("page.html")
NONCE = "NONCE"  # stands for it in the file


@functools.cache
def page_text() -> str:
    """The file."""
    return PAGE_PATH.read_text(encoding="utf-8")


def page_response() -> Response:
    """The page; nothing in it may load, run or be framed but its own script and style."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    html = page_text().replace(f'nonce="{NONCE}"', f'nonce="{nonce}"')
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})
