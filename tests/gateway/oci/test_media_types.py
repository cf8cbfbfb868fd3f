"""Media types: four are manifests, parameters and case do not matter."""

import pytest

from gateway.oci import media_types as mt

ACCEPTED = [mt.OCI_MANIFEST, mt.OCI_INDEX, mt.DOCKER_MANIFEST, mt.DOCKER_LIST]
FORMER = [mt.SCHEMA1, mt.SCHEMA1_SIGNED, mt.OCI_ARTIFACT]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        (" ", None),
        ("; charset=utf-8", None),
        (mt.OCI_INDEX, mt.OCI_INDEX),
        (f" {mt.OCI_INDEX} ; charset=utf-8", mt.OCI_INDEX),
        ("Application/JSON;a=b;c=d", "application/json"),
        ("nonsense", "nonsense"),
    ],
)
def test_mp_05_content_type_loses_parameters_and_case(header: str | None, expected: str | None) -> None:
    """A header is reduced to its type; one that says nothing is as if it were absent."""
    assert mt.parse_content_type(header) == expected


def test_mp_04_four_types_are_manifests_and_two_of_them_indexes() -> None:
    """OCI and Docker manifests and indexes are accepted, former types are known and not accepted."""
    assert [mt.is_manifest_type(each) for each in (*ACCEPTED, *FORMER, mt.JSON)] == [True] * 4 + [False] * 4
    assert [mt.is_index_type(each) for each in ACCEPTED] == [False, True, False, True]
    assert [mt.is_docker_type(each) for each in ACCEPTED] == [False, False, True, True]
    assert [mt.is_former_manifest_type(each) for each in (*ACCEPTED, *FORMER)] == [False] * 4 + [True] * 3


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", True),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", True),
        ("application/vnd.oci.image.layer.v1.tar+gzip", False),
        ("application/octet-stream", False),
    ],
)
def test_mp_11_foreign_layers_are_known_by_their_type(media_type: str, *, expected: bool) -> None:
    """Non-distributable and foreign types are told from ordinary layers."""
    assert mt.is_foreign_layer_type(media_type) is expected
