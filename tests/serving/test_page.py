"""The page as it is sent: one file, nothing from elsewhere, a policy that lets nothing else in."""

import re

from groundql.serving.page import page_text


def test_the_page_has_a_new_nonce_each_time_and_a_policy_that_names_it(client):
    nonces = set()
    for _ in range(2):
        answer = client.get("/")
        policy = answer.headers["content-security-policy"]
        (nonce,) = set(re.findall(r'nonce="([^"]+)"', answer.text))
        assert f"script-src 'nonce-{nonce}'" in policy
        assert f"style-src 'nonce-{nonce}'" in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        nonces.add(nonce)
    assert len(nonces) == 2


def test_the_page_loads_nothing_and_puts_nothing_in_as_html():
    text = page_text()
    addresses = set(re.findall(r"https?://[^\s\"'`)]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a namespace, not a request
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|Function)\b", text)
    assert not re.search(r"<[^>]+\s(style|on\w+)=", text)  # the policy would refuse them
    assert len(text) < 50_000
