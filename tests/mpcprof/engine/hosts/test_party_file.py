import pytest

from mpcprof.engine.hosts.party_file import read_party_file
from mpcprof.errors import UsageError

ADDRESSES = 'addresses = ["10.0.0.1:9100", "10.0.0.2:9100"]'


def read(folder, text):
    path = folder / "party.toml"
    path.write_text(text)
    return read_party_file(path)


def test_a_file_of_two_lines_is_enough(tmp_path):
    found = read(tmp_path, f"rank = 1\n{ADDRESSES}")

    assert (found.peers, found.endpoint(0)) == ((0,), ("10.0.0.1", 9100))
    assert (found.listens_at, found.name_of(0)) == (("10.0.0.2", 9100), "party0")
    assert found.link_header()["addresses"] == ["10.0.0.1:9100", "10.0.0.2:9100"]
    assert found.tls is None
    assert found.may_run_program("0123")


def test_a_party_listens_elsewhere_than_it_is_dialled(tmp_path):
    found = read(tmp_path, f'rank = 0\n{ADDRESSES}\nlisten = "0.0.0.0:9200"')

    assert found.listens_at == ("0.0.0.0", 9200)
    assert found.link_header()["addresses"][0] == "0.0.0.0:9200"


def test_only_listed_programs_are_run(tmp_path):
    found = read(tmp_path, f'rank = 1\n{ADDRESSES}\nmay_run = ["0123abcd"]')

    assert found.may_run_program("0123abcdef")
    assert not found.may_run_program("1123abcdef")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ADDRESSES, "rank"),
        (f"rank = 2\n{ADDRESSES}", "rank=2: expected 0 to 1"),
        ('rank = 0\naddresses = ["10.0.0.1:9100"]', "1 addresses: expected one for"),
        ('rank = 0\naddresses = ["10.0.0.1", "b:2"]', "expected HOST:PORT"),
        ('rank = 0\naddresses = ["a:1", "a:1"]', "two parties at a:1"),
        ('rank = 0\naddresses = ["a:1", "b:1", "b:1"]', "two parties at b:1"),
        (f'rank = 0\n{ADDRESSES}\nmay_run = ["me"]', 'expected "any", or digests'),
        (f'rank = 0\n{ADDRESSES}\nconnect_limit = "60"', "60"),
        (f'rank = 0\n{ADDRESSES}\nwait_limit = "long"', "long"),
        (f'rank = 0\n{ADDRESSES}\nruntime = "spu-9"', "spu-9"),
        (f"rank = 0\n{ADDRESSES}\nport = 1", "port"),
        (f'rank = 0\n{ADDRESSES}\nnames = ["a"]', "expected 2 others"),
        (f"rank = \n{ADDRESSES}", "Invalid value"),
        (
            f'rank = 0\n{ADDRESSES}\n[tls]\ncertificate = "no.pem"\nkey = "k"\n'
            'authority = "a"',
            "there is no such file",
        ),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path, text, reason):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)

    assert reason in str(caught.value)
    assert "party.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_an_editor_that_marks_its_encoding_is_read(tmp_path):
    assert read(tmp_path, f"\ufeffrank = 1\n{ADDRESSES}").rank == 1
