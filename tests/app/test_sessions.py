"""What is kept for people: apart, bounded, and given up."""

import pytest
import torch

from foveate.app.sessions import Sessions
from foveate.app.uploads import Upload
from foveate.errors import FoveateError


def test_everybody_has_their_own(tmp_path):
    sessions = Sessions(tmp_path)
    sessions.of("a").upload = Upload(torch.zeros(3, 1, 1), "mine")
    assert sessions.of("b").upload is None and sessions.of("a").upload.said == "mine"
    assert sessions.of("a").folder != sessions.of("b").folder


@pytest.mark.parametrize("name", [None, "", "x" * 65])
def test_nobody_is_nobody(tmp_path, name):
    with pytest.raises(FoveateError, match="load it again"):
        Sessions(tmp_path).of(name)


def test_a_name_is_no_path(tmp_path):
    session = Sessions(tmp_path).of("../../x")
    assert session.folder.parent == tmp_path


def test_the_one_unheard_of_for_longest_makes_room(tmp_path):
    sessions = Sessions(tmp_path, most=2)
    first = sessions.of("a").folder
    (first / "file").touch()
    sessions.of("b")
    sessions.of("a")
    second = sessions.of("b").folder
    sessions.of("a")
    sessions.of("c")  # b is the one
    assert len(sessions) == 2 and first.exists() and not second.exists()
    assert sessions.of("a").folder == first


def test_silence_ends_a_session(tmp_path):
    sessions = Sessions(tmp_path, idle=100.0)
    sessions.of("a").used -= 101
    sessions.of("b").used -= 50
    sessions.sweep()
    assert len(sessions) == 1 and len(list(tmp_path.iterdir())) == 1


def test_leaving_removes_files_and_ends_the_comparison(tmp_path):
    stopped = []

    class Runs:
        def stop(self, why):
            stopped.append(why)

    root = tmp_path / "all"
    root.mkdir()
    sessions = Sessions(root)
    session = sessions.of("a")
    session.comparison = Runs()
    (session.new_folder() / "run.json").touch()
    sessions.close("a")
    assert len(stopped) == 1 and not session.folder.exists() and len(sessions) == 0
    sessions.close("a")
    sessions.close(None)
    sessions.of("b").comparison = Runs()
    sessions.close_all()
    assert len(stopped) == 2 and not root.exists()


def test_results_of_before_make_room_for_new_ones(tmp_path):
    session = Sessions(tmp_path).of("a")
    old = session.new_folder()
    new = session.new_folder()
    assert new.exists() and not old.exists()
