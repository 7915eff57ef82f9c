import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipelines.settings import VERSION, Settings, SettingsError, default_data_dir, from_table, load, parser, to_table

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environ(tmp_path):
    """An environment whose data folder is empty."""
    return {"XDG_DATA_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path), "PATH": "/bin"}


def refused(argv, environ) -> str:
    with pytest.raises(SettingsError) as caught:
        load(argv, environ)
    message = str(caught.value)
    assert "\n" not in message
    return message


def write(path: Path, text: str) -> str:
    path.write_text(text, "utf-8")
    return str(path)


def test_without_anything_said_the_defaults_hold(environ):
    settings = load([], environ)
    assert (settings.host, settings.port, settings.share, settings.auth) == ("127.0.0.1", 7860, False, None)
    assert (settings.model, settings.model_dir, settings.device, settings.dtype) == (None, (), "auto", "auto")
    assert settings.data_dir == default_data_dir(environ)
    assert settings.embed_metadata and not settings.offline and not settings.is_public


def test_file_beats_default_environment_beats_file_and_flag_beats_environment(environ, tmp_path):
    config = write(tmp_path / "my.toml", "port = 1001\nhost = 'file'\ndevice = 'cpu'\n")
    settings = load(["--config", config, "--port", "1003"], environ | {"ATELIER_PORT": "1002", "ATELIER_HOST": "env"})
    assert (settings.port, settings.host, settings.device, settings.dtype) == (1003, "env", "cpu", "auto")


def test_the_config_file_of_the_data_folder_is_read_when_it_is_there(environ, tmp_path):
    write(tmp_path / "config.toml", "port = 1001")
    assert load(["--data-dir", str(tmp_path)], environ).port == 1001
    assert load([], environ | {"ATELIER_DATA_DIR": str(tmp_path)}).port == 1001
    other = write(tmp_path / "other.toml", "host = 'h'")
    assert load(["--data-dir", str(tmp_path), "--config", other], environ).port == 7860


def test_a_named_config_file_can_move_the_data_folder(environ, tmp_path):
    config = write(tmp_path / "my.toml", f"data_dir = '{tmp_path / 'pictures'}'")
    assert load([], environ | {"ATELIER_CONFIG": config}).data_dir == tmp_path / "pictures"
    assert load(["--config", config, "--data-dir", str(tmp_path)], environ).data_dir == tmp_path


def test_the_data_folders_own_config_file_cannot_move_it(environ, tmp_path):
    write(tmp_path / "config.toml", "data_dir = '/elsewhere'")
    assert "cannot say where that folder is" in refused(["--data-dir", str(tmp_path)], environ)


def test_unknown_key_is_refused_by_name_in_every_place(environ, tmp_path):
    assert refused(["--prot", "1"], environ) == "--prot: there is no such flag. Did you mean --port?"
    assert refused(["--prot=1"], environ) == "--prot: there is no such flag. Did you mean --port?"
    assert refused([], environ | {"ATELIER_PROT": "1"}) == (
        "ATELIER_PROT: there is no such setting. Did you mean ATELIER_PORT?")
    assert refused(["--config", write(tmp_path / "a.toml", "prot = 1")], environ) == (
        "prot in a.toml: there is no such setting. Did you mean port?")
    assert refused(["--config", write(tmp_path / "b.toml", "[server]\nport = 1")], environ).startswith(
        "server in b.toml: there is no such setting.")
    assert refused(["picture.png"], environ) == "picture.png: there is no such argument."


@pytest.mark.parametrize("path", ["C:\\Users\\ann", "D:\\models", "C:\\new\\train"])
def test_backslashes_in_a_file_of_settings_are_explained(environ, tmp_path, path):
    for text in (f'model_dir = "{path}"', f'model_dir = ["{path}"]'):
        assert "a backslash begins an escape" in refused(["--config", write(tmp_path / "a.toml", text)], environ)
    assert str(load(["--config", write(tmp_path / "b.toml", f"model_dir = '{path}'")], environ).model_dir[0]).endswith(
        path)


def test_settings_told_to_a_process_come_back_without_secrets(environ, tmp_path):
    secrets = {"ATELIER_AUTH": "ann:well-kept-secret", "ATELIER_HF_TOKEN": "secret", "ATELIER_CIVITAI_TOKEN": "secret"}
    flags = ["--data-dir", str(tmp_path), "--model-dir", "a", "--model-dir", "b", "--offline", "--device", "cuda:1"]
    told = json.loads(json.dumps(to_table(load(flags, environ | secrets))))
    assert "secret" not in str(told)
    assert from_table({**told, "of a newer version": 1}) == load(flags, environ)
    with pytest.raises(SettingsError, match="device"):
        from_table({**told, "device": "gpu"})


def test_flags_are_not_guessed_from_their_beginning(environ):
    assert "--por" in refused(["--por", "1"], environ)


@pytest.mark.parametrize(("argv", "named", "limit"), [
    (["--port", "99999"], "--port", "65535"),
    (["--port", "0"], "--port", "greater than or equal to 1"),
    (["--port", "2.5"], "--port", "integer"),
    (["--dtype", "int4"], "--dtype", "bfloat16"),
    (["--device", "gpu"], "--device", "cuda"),
    (["--log-level", "loud"], "--log-level", "warning"),
    (["--device-budget-gb", "nan"], "--device-budget-gb", "finite"),
    (["--host-budget-gb", "0"], "--host-budget-gb", "greater than 0"),
    (["--host", ""], "--host", "at least 1 character"),
])
def test_wrong_flag_values_are_refused_with_flag_value_and_limit(environ, argv, named, limit):
    message = refused(argv, environ)
    assert message.startswith(f"{named}: {argv[1]!r} is not possible.") and limit in message


def test_wrong_values_name_where_they_were_said(environ, tmp_path):
    assert refused([], environ | {"ATELIER_PORT": "many"}).startswith("ATELIER_PORT: 'many'")
    config = write(tmp_path / "a.toml", "port = true")
    assert refused(["--config", config], environ).startswith("port in a.toml: True is not possible.")


def test_a_flag_without_its_value_is_refused_in_one_line(environ):
    assert "--port" in refused(["--port"], environ)


def test_long_wrong_values_are_cut(environ):
    assert len(refused([], environ | {"ATELIER_PORT": "9" * 100_000})) < 200


def test_a_config_file_that_is_missing_or_broken_is_named_without_its_folder(environ, tmp_path):
    assert refused(["--config", str(tmp_path / "no.toml")], environ).startswith("no.toml: the file cannot be read")
    assert refused(["--config", write(tmp_path / "bad.toml", "port = = 1")], environ).startswith("bad.toml: the file")
    (tmp_path / "latin.toml").write_bytes(b"host = '\xe4'")
    message = refused(["--config", str(tmp_path / "latin.toml")], environ)
    assert message.startswith("latin.toml: the file is not valid TOML") and str(tmp_path) not in message


def test_a_config_file_with_the_mark_of_windows_editor_is_read(environ, tmp_path):
    (tmp_path / "marked.toml").write_bytes(b"\xef\xbb\xbfport = 8000")
    assert load(["--config", str(tmp_path / "marked.toml")], environ).port == 8000


def test_switches_can_be_turned_off_again_by_flag(environ):
    on = environ | {"ATELIER_SHARE": "true", "ATELIER_OFFLINE": "1"}
    assert load([], on).share and load([], on).offline
    assert not load(["--no-share"], on).share
    assert not load(["--no-embed-metadata"], environ).embed_metadata


def test_empty_variables_count_as_not_set(environ):
    assert load([], environ | {"ATELIER_MODEL": "", "ATELIER_AUTH": "", "ATELIER_PORT": ""}) == load([], environ)


def test_several_model_folders_can_be_given_in_every_place(environ, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    config = write(tmp_path / "c.toml", f"model_dir = ['{a}', '{b}']")
    assert load(["--model-dir", str(a), "--model-dir", str(b)], environ).model_dir == (a, b)
    assert load([], environ | {"ATELIER_MODEL_DIR": f"{a}{os.pathsep}{b}"}).model_dir == (a, b)
    assert load(["--config", config], environ).model_dir == (a, b)
    assert load(["--config", write(tmp_path / "d.toml", f"model_dir = '{a}'")], environ).model_dir == (a,)


def test_home_is_spelled_out_in_folders(environ):
    assert load(["--data-dir", "~/pictures"], environ).data_dir == Path.home() / "pictures"


def test_the_password_shows_in_no_text_about_the_settings(environ):
    settings = load(["--auth", "anna:s3cret:with colon"], environ)
    assert settings.login == ("anna", "s3cret:with colon")
    for text in (repr(settings), str(settings), repr(settings.model_dump()), settings.model_dump_json()):
        assert "s3cret" not in text
    assert "hush" not in refused([], environ | {"ATELIER_AUTH": "hush"})


@pytest.mark.parametrize("auth", ["anna", "anna:", ":word", ":"])
def test_a_login_without_name_or_password_is_refused(environ, auth):
    assert refused(["--auth", auth], environ) == "--auth: the value is not possible: it must look like user:password."


@pytest.mark.parametrize(("argv", "public"), [
    ([], False), (["--host", "localhost"], False), (["--host", "::1"], False), (["--share"], True),
    (["--host", "0.0.0.0"], True), (["--host", "192.168.1.5"], True)])
def test_public_is_what_others_can_reach(environ, argv, public):
    assert load(argv, environ).is_public is public


def test_the_data_folder_is_where_each_system_keeps_such_data():
    home = Path.home()
    assert default_data_dir({}, "linux") == home / ".local/share/atelier"
    assert default_data_dir({"XDG_DATA_HOME": "/data"}, "linux") == Path("/data/atelier")
    assert default_data_dir({"XDG_DATA_HOME": "not/absolute"}, "linux") == home / ".local/share/atelier"
    assert default_data_dir({}, "darwin") == home / "Library/Application Support/atelier"
    assert default_data_dir({"LOCALAPPDATA": "/local"}, "win32") == Path("/local/atelier")


def test_help_lists_every_setting_with_its_text_and_variable(capsys, environ):
    with pytest.raises(SystemExit) as end:
        load(["--help"], environ)
    text = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    for name, info in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text and f"[ATELIER_{name.upper()}]" in text
        assert info.description and info.description.split(".")[0] in text
    assert "--config FILE" in text and "Default: 7860." in text


def test_every_setting_can_be_given_as_a_flag():
    flags = {action.dest for action in parser()._actions}
    assert set(Settings.model_fields) <= flags


def test_version_is_printed_and_is_that_of_the_project(capsys, environ):
    with pytest.raises(SystemExit) as end:
        load(["--version"], environ)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (end.value.code, capsys.readouterr().out.strip()) == (0, f"Atelier {VERSION}")
    assert project["version"] == VERSION


def test_settings_cannot_be_changed_afterwards(environ):
    with pytest.raises(ValueError, match="frozen"):
        load([], environ).port = 1


def test_reading_settings_needs_neither_torch_nor_gradio():
    code = ("import sys; sys.modules['torch'] = sys.modules['gradio'] = None\n"
            "from pipelines.settings import load; import pipelines.metadata; print(load([], {}).port)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "7860", done.stderr
