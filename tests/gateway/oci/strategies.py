"""Hypothesis strategies for the spec's nouns, generated from the spec's grammar and not with our code."""

from hypothesis import strategies as st

from storage import Digest

_WORD = st.text("abz019", min_size=1, max_size=4)
_SEPARATOR = st.sampled_from([".", "_", "__", "-", "--", "---"])
_PATH_WORDS = st.sampled_from(["manifests", "blobs", "uploads", "tags", "list", "referrers", "token", "v2", "latest"])


@st.composite
def components(draw: st.DrawFn) -> str:
    """One component of a name, often one of the path's own words."""
    if draw(st.booleans()):
        return draw(_PATH_WORDS)
    text = draw(_WORD)
    for _ in range(draw(st.integers(0, 2))):
        text += draw(_SEPARATOR) + draw(_WORD)
    return text


NAMES = st.lists(components(), min_size=1, max_size=5).map("/".join)
TAGS = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", fullmatch=True)
DIGESTS = st.builds(Digest.of, st.binary(max_size=8), st.sampled_from(["sha256", "sha512"]))
UPLOAD_IDS = st.uuids().flatmap(lambda each: st.sampled_from([str(each), each.hex]))
