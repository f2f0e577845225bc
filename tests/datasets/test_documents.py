from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from codecprior.datasets.documents import load_named, names_in, parse_yaml, read_yaml
from codecprior.errors import ConfigError, DatasetError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slow.yaml").write_text("rate: 1e-4\n")
    (tmp_path / "fast.yaml").write_text("rate: 2\n")
    (tmp_path / "readme.txt").write_text("no document\n")
    return tmp_path


def test_documents_of_a_folder_have_names(folder: Path) -> None:
    assert names_in(folder) == ("fast", "slow")
    assert load_named("speed", "slow", folder) == {"rate": 1e-4}
    with pytest.raises(ConfigError, match=r"^speed 'swift': use fast, slow or a \.yaml file$"):
        load_named("speed", "swift", folder)


@pytest.mark.parametrize("extension", [".yaml", ".yml", ".json", ".YAML"])
def test_a_name_with_an_extension_is_a_file(folder: Path, extension: str) -> None:
    path = folder / f"mine{extension}"
    path.write_text('{"rate": 3}')
    assert load_named("speed", path, folder) == load_named("speed", str(path), folder) == {"rate": 3}
    with pytest.raises(ConfigError, match=r"absent.yaml: cannot be read \(No such file"):
        load_named("speed", "absent.yaml", folder)


@pytest.mark.parametrize("content", [b"rate: [1", b"\xff\xfe\x00", b"rate: !!python/object/apply:os.system [ls]"])
def test_what_is_no_yaml_is_one_line_of_the_kind_that_is_asked_for(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    for kind in (ConfigError, DatasetError):
        with pytest.raises(kind, match=r"broken.yaml: is no YAML \(") as found:
            read_yaml(path, error=kind)
        assert "\n" not in str(found.value)


def test_scalars_are_numbers_or_stay_texts() -> None:
    text = "[1e-4, .5e3, -2E+1, 007, 1e, e4]"
    assert parse_yaml(text, "here") == [1e-4, 500.0, -20.0, 7, "1e", "e4"]
    assert parse_yaml(text, "here", yaml.BaseLoader) == ["1e-4", ".5e3", "-2E+1", "007", "1e", "e4"]
