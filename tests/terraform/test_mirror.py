"""The folders in which the provider is searched."""

from __future__ import annotations

import pytest
from terraform import mirror

UNPACKED = "registry.terraform.io/hashicorp/aws/5.100.0/linux_amd64/terraform-provider-aws_v5.100.0_x5"
PACKED = "registry.terraform.io/hashicorp/aws/terraform-provider-aws_5.100.0_linux_amd64.zip"


def with_provider(folder, file=UNPACKED):
    (folder / file).parent.mkdir(parents=True)
    (folder / file).touch()
    return folder


def found(environ, *, home, searched=(), version="5.100.0", on="linux_amd64"):
    return mirror.provider_mirror(environ, version=version, on=on, home=home, searched=searched)


def test_the_version_is_that_of_the_lock_file():
    lock_file = 'provider "registry.terraform.io/hashicorp/aws" {\n  version     = "5.100.0"\n  hashes = []\n}\n'
    assert mirror.locked_version(lock_file) == "5.100.0"


@pytest.mark.parametrize("file", [UNPACKED, PACKED])
def test_a_mirror_has_the_provider_unpacked_or_packed(tmp_path, file):
    place = with_provider(tmp_path / "plugins", file)
    assert found({"TF_PLUGIN_MIRROR": str(place)}, home=tmp_path) == place


def test_a_named_mirror_without_the_provider_is_an_error(tmp_path):
    with_provider(tmp_path / "home" / ".terraform.d" / "plugins")
    with pytest.raises(mirror.MirrorError, match=r"expected .*5\.100\.0 for linux_amd64 below it, got .*nowhere"):
        found({"TF_PLUGIN_MIRROR": str(tmp_path / "nowhere")}, home=tmp_path / "home")


@pytest.mark.parametrize("place", [".terraform.d/plugins", ".local/share/terraform/plugins"])
def test_terraforms_own_folders_are_searched(tmp_path, place):
    assert found({}, home=tmp_path) is None
    assert found({}, home=with_provider(tmp_path / place) and tmp_path) == tmp_path / place


def test_a_mirror_in_terraforms_configuration_file_is_found(tmp_path):
    place = with_provider(tmp_path / "plugins")
    rc = tmp_path / "cli.tfrc"
    rc.write_text(f'provider_installation {{\n  filesystem_mirror {{\n    path    = "{place}"\n  }}\n}}\n')
    assert found({"TF_CLI_CONFIG_FILE": str(rc)}, home=tmp_path / "home") == place


def test_a_missing_configuration_file_is_ignored(tmp_path):
    assert found({"TF_CLI_CONFIG_FILE": str(tmp_path / "nowhere")}, home=tmp_path) is None


def test_another_version_or_platform_is_not_accepted(tmp_path):
    home = tmp_path
    with_provider(home / ".terraform.d" / "plugins")
    assert found({}, home=home, version="5.99.1") is None
    assert found({}, home=home, on="darwin_arm64") is None


def test_the_search_is_three_folders_deep_and_follows_no_link(tmp_path):
    with_provider(tmp_path / "deep" / "1" / "2" / "3")
    place = with_provider(tmp_path / "too-deep" / "1" / "2" / "3" / "4")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "1").symlink_to(place)
    search = {"home": tmp_path / "home"}
    assert found({}, searched=[tmp_path / "deep"], **search) == tmp_path / "deep" / "1" / "2" / "3"
    assert found({}, searched=[tmp_path / "too-deep"], **search) is None
    assert found({}, searched=[tmp_path / "linked", tmp_path / "nowhere"], **search) is None
