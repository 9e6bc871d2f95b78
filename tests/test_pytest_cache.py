"""Where pytest keeps its cache, found without pytest: held against pytest itself."""

import subprocess
import sys

import pytest

from pytest_nrfdfu.cli.pytest_cache import cache_folder, memory_file

LAYOUTS = {
    "nothing": {},
    "pytest.ini above": {"pytest.ini": "[pytest]\n"},
    "an empty pytest.ini": {"pytest.ini": ""},
    ".pytest.ini below one": {"pytest.ini": "", "sub/.pytest.ini": "[pytest]\n"},
    "a cache_dir of its own": {"pytest.ini": "[pytest]\ncache_dir = kept/here\n"},
    "a cache_dir from the environment": {"pytest.ini": "[pytest]\ncache_dir = $KEPT/x\n"},
    "pyproject.toml": {"pyproject.toml": '[tool.pytest.ini_options]\ncache_dir = "kept"\n'},
    "pyproject.toml without pytest": {"pyproject.toml": '[project]\nname = "x"\n'},
    "pyproject.toml without pytest, tox.ini above": {"tox.ini": "[pytest]\n", "sub/pyproject.toml": "[project]\n"},
    "pyproject.toml without pytest above setup.py": {"pyproject.toml": "[project]\n", "sub/setup.py": ""},
    "tox.ini without pytest": {"tox.ini": "[tox]\n"},
    "setup.cfg": {"setup.cfg": "[tool:pytest]\ncache_dir = kept\n"},
    "setup.py": {"setup.py": ""},
}
PLUGIN = "def pytest_report_header(config):\n    print('CACHE', config.cache.mkdir('nrfdfu'))\n"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_where_pytest_has_it(tmp_path, layout):
    here = tmp_path / "sub" / "here"
    here.mkdir(parents=True)
    for name, content in LAYOUTS[layout].items():
        (tmp_path / name).write_text(content)
    (tmp_path / "teller.py").write_text(PLUGIN)
    environment = {"PYTHONPATH": str(tmp_path), "KEPT": "elsewhere", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "teller", "--collect-only"]
    done = subprocess.run(command, cwd=here, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    told = next(line for line in done.stdout.splitlines() if line.startswith("CACHE "))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEPT", "elsewhere")
        assert str(memory_file(here, environment={}).parent) == told.removeprefix("CACHE ")


def test_a_rootdir_that_is_told_holds(tmp_path):
    (tmp_path / "pytest.ini").write_text("")
    assert cache_folder(tmp_path, tmp_path / "other", {}) == tmp_path / "other" / ".pytest_cache"


def test_toxs_environment_keeps_a_cache_of_its_own(tmp_path):
    (tmp_path / "pytest.ini").write_text("")
    tox = tmp_path / ".tox" / "py"
    assert cache_folder(tmp_path, environment={"TOX_ENV_DIR": str(tox)}) == tox / ".pytest_cache"


@pytest.mark.parametrize("content", ["[pytest", "\xff"])
def test_a_file_that_cannot_be_read_is_left_to_pytest(tmp_path, content):
    (tmp_path / "tox.ini").write_bytes(content.encode("latin-1"))
    assert cache_folder(tmp_path, environment={}) == tmp_path / ".pytest_cache"
