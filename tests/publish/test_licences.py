"""Which licences are open, and what a person has to say of the others."""

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from datagen.errors import UsageError
from datagen.publish.licences import hub_licence, licence_ledger, open_grants, read_grants
from tests.export.samples import built
from tests.inspect.samples import cooking, write
from tests.publish.samples import dataset


@pytest.mark.parametrize(
    ("licence", "name"),
    [
        ("CC BY 4.0", "cc-by-4.0"),
        ("cc-by-nc-sa-4.0", "cc-by-nc-sa-4.0"),
        ("CC_BY_SA_3.0", "cc-by-sa-3.0"),
        ("https://creativecommons.org/licenses/by/4.0/", "cc-by-4.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("Creative Commons Attribution 4.0 International", "cc-by-4.0"),
        ("Creative Commons Attribution-NonCommercial-ShareAlike 4.0", "cc-by-nc-sa-4.0"),
        ("cc-by", "cc"),
        ("CC0", "cc0-1.0"),
        ("MIT", "mit"),
        ("Public Domain", "pddl"),
    ],
)
def test_open_licences_by_the_name_the_hub_has(licence, name):
    assert hub_licence(licence) == name


@pytest.mark.parametrize(
    "licence",
    ["", "none", "CC-BY-ND-4.0", "cc-by-nc-nd-4.0", "by", "Standard YouTube Licence", "Ego4D",
     "cc-by-4.0 or not", "not CC0", "https://evil.org/licenses/by/4.0/", "proprietary (mit)",
     "https://creativecommons.org/licenses/by-nd/4.0"],
)  # fmt: skip
def test_what_is_not_known_to_be_open_is_not(licence):
    assert hub_licence(licence) is None


@given(st.text(max_size=300))
def test_any_text_can_be_a_licence(licence):
    hub_licence(licence)
    hub_licence("cc-by-" * 100_000 + licence)


def test_grants_by_source_and_licence(tmp_path):
    out = dataset(tmp_path, ["CC0", None, "Ego4D", "CC0"])
    with pytest.raises(UsageError, match=r'1 videos are under "Ego4D".*--licence-ok "Ego4D"'):
        read_grants(out)
    grants = read_grants(out, timestamps=["EGO4D"])
    assert grants.whole == {"v00": "CC0", "v03": "CC0"}
    assert [(t.licence, t.videos, t.whole) for t in grants.terms] == [
        ("", 1, False),
        ("CC0", 2, True),
        ("Ego4D", 1, False),
    ]
    assert grants.withheld == 2
    # Without anybody's word the same is whole, and the third is no case of times alone.
    opened = open_grants(out)
    assert opened.whole == grants.whole
    assert [row["published"] for row in licence_ledger(grants.terms)] == ["timestamps", "whole", "timestamps"]
    assert [row["published"] for row in licence_ledger(opened.terms)] == ["timestamps", "whole", "refused"]
    assert read_grants(out, ok=["ego4d", "none"]).withheld == 0
    with pytest.raises(
        UsageError, match=r"'Ego5D': no video has this licence; there are 'cc0', 'ego4d', 'none'"
    ):
        read_grants(out, ok=["Ego4D", "Ego5D"])
    with pytest.raises(UsageError, match="holds no videos"):
        read_grants(tmp_path / "elsewhere")


def test_texts_under_a_licence_of_their_own_are_published_as_the_stricter_of_the_two_allows(tmp_path):
    videos = [
        replace(made, video=replace(made.video, licence=licence, sidecar="a.srt", sidecar_licence=texts))
        for made, licence, texts in (
            (built(cooking(f"v{n}"), id=f"v{n}", frames=60), *both)
            for n, both in enumerate([("CC0", ""), ("CC0", "CC0"), ("CC0", "Ego4D"), ("", "CC0")])
        )
    ]
    out = write(tmp_path / "out", videos)
    with pytest.raises(UsageError, match='1 videos are under "Ego4D"'):
        read_grants(out)
    assert read_grants(out, timestamps=["ego4d"]).whole == {"v0": "CC0", "v1": "CC0"}
    assert read_grants(out, ok=["ego4d"]).whole == {"v0": "CC0", "v1": "CC0", "v2": "CC0"}
    rows = licence_ledger(open_grants(out).terms)
    assert [(r["licence"], r["sidecar_licence"], r["videos"], r["published"]) for r in rows] == [
        ("", "CC0", 1, "timestamps"),
        ("CC0", "", 2, "whole"),
        ("CC0", "Ego4D", 1, "refused"),
    ]
    hours = sum(made.watched.duration for made in videos) / 3600
    assert sum(row["hours"] for row in rows) == pytest.approx(hours, abs=1e-3)


def test_datasets_of_an_earlier_version_know_no_licence_of_texts(tmp_path):
    out = dataset(tmp_path, ["CC0", None])
    for path in (out / "videos").glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["sidecar_licence"]), path)
    assert open_grants(out).whole == {"v00": "CC0"}
