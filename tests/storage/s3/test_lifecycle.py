"""Our rules stand beside those of others, and setting them twice changes nothing."""

from storage.s3.lifecycle import Rules, with_ours

THEIRS: Rules = [
    {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 9}},
    {"ID": "old", "Status": "Disabled", "Prefix": "", "Expiration": {"Days": 1}},
]


def test_rules() -> None:
    """Abandoned uploads end where blobs are written; what is whole ends below staging and probe, and nowhere else."""
    uploads, staging, probe = with_ours([], root="a/", days=3)
    assert uploads["Filter"] == {"Prefix": "a/blobs/"}
    assert uploads["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 3}
    assert "Expiration" not in uploads
    assert (staging["Filter"], staging["Expiration"]) == ({"Prefix": "a/staging/"}, {"Days": 3})
    assert (probe["Filter"], probe["Expiration"]) == ({"Prefix": "a/probe/"}, {"Days": 3})


def test_rules_of_others_stay() -> None:
    """What others set stays as it is and where it is."""
    assert with_ours(THEIRS, root="", days=2)[:2] == THEIRS


def test_again_changes_nothing() -> None:
    """What is there already, in any order, is left alone."""
    once = with_ours(THEIRS, root="a/", days=2)
    shuffled = [dict(reversed(rule.items())) for rule in reversed(once)]
    assert with_ours(shuffled, root="a/", days=2) is shuffled


def test_two_prefixes_of_one_bucket() -> None:
    """Two installations in one bucket keep each other's rules."""
    both = with_ours(with_ours([], root="a/", days=2), root="b/", days=2)
    assert len(both) == 6
    assert with_ours(both, root="a/", days=2) is both


def test_changed_days() -> None:
    """A changed setting replaces our rules, and only ours."""
    changed = with_ours(with_ours(THEIRS, root="", days=2), root="", days=5)
    assert changed[:2] == THEIRS
    assert [rule for rule in changed if "5" in repr(rule)] == changed[2:]
    assert len(changed) == 5
