"""The operator's page on a graph: what it hears of a real robot and bridge, and that its button stops them."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")
pytest.importorskip("viser", reason="needs the view extra: pip install 'vla-rl[view]'")

from std_msgs.msg import Bool, String

from robot.profile import load_profile
from robot.ros2.operators import ESTOP_QOS
from robot.ros2.reports import STATUS_QOS
from robot.ros2.view import ViewNode
from tests.robot.relaxed import AGES, RATES, SAFETY
from tests.ros import Graph, Process, unique_domain, write_profile
from tests.vla_rl.test_cli import refused

pytestmark = pytest.mark.ros


@pytest.fixture
def graph() -> Iterator[Graph]:
    graph = Graph(unique_domain())
    yield graph
    graph.close()


def test_the_page_watches_and_its_button_stops(graph: Graph, tmp_path: Path) -> None:
    path = write_profile(tmp_path, rates=RATES, ages=AGES, safety=SAFETY)
    domain = graph.context.get_domain_id()
    sim = Process(domain, ["-m", "sim.ros2", str(path), "--task", "reach", "--image-px", "32"], tmp_path / "robot.log")
    bridge = Process(domain, ["-m", "robot.ros2", str(path), "--activate"], tmp_path / "bridge.log")
    said: list[str] = []
    view = ViewNode(graph.node, load_profile(path), said.append)
    statuses = graph.record(String, "/arm7/bridge/status", STATUS_QOS)
    try:
        graph.until(lambda: view.watch.moment().status.get("state") == "standby", "the page knows the bridge's state")
        graph.until(lambda: view.watch.moment().measured is not None, "the page knows the joints")
        graph.until(lambda: "front" in view.watch.moment().images, "the page has a picture")
        before = len(statuses)
        graph.until(lambda: len(statuses) > before + 5, "the bridge goes on")
        assert json.loads(statuses[-1].data)["state"] == "standby", "a page that only watches is no e-stop source that can be lost"
        view.stop()
        graph.until(lambda: view.watch.moment().status.get("state") == "estop", "the button stops the bridge")
        view.release()
        view.disarm()
        graph.until(lambda: any(text.startswith("disarm: ") for text in said), "disarming is answered")
        assert said[0] == "**stop is pressed**" and "reset" in said[1]
    finally:
        for process in (bridge, sim):
            process.stop()


def test_silence_of_the_page_says_nothing(graph: Graph) -> None:
    view = ViewNode(graph.node, load_profile(Path("configs/robots/arm7.yaml")), lambda text: None)
    heard = graph.record(Bool, "/arm7/bridge/estop", ESTOP_QOS)
    view.stop()
    graph.until(lambda: len(heard) > 3, "a pressed button repeats itself")
    assert all(message.data for message in heard)
    view.release()
    graph.spin(0.2)
    count = len(heard)
    graph.spin(0.5)
    assert len(heard) == count


def test_the_program_serves_until_told_to_stop(graph: Graph, tmp_path: Path) -> None:
    arguments = ["-m", "vla_rl.cli", "view", "configs/robots/arm7.yaml", "--port", "0"]
    process = Process(graph.context.get_domain_id(), arguments, tmp_path / "view.log")
    graph.until(lambda: "http://" in process.output() or not process.alive(), "the page is served")
    address = re.findall(r"http://\S+", process.output())[-1]
    assert urllib.request.urlopen(address, timeout=10).status == 200
    assert process.stop() == 0


def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such" in refused(["view", "nothing.yaml"], capsys)
