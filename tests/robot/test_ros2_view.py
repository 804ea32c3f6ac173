"""The operator's page on a graph: what it hears of a real robot and bridge, and that its button stops them."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")
pytest.importorskip("viser", reason="needs the view extra: pip install 'vla-rl[view]'")

from std_msgs.msg import Bool, String

from robot.profile import load_profile
from robot.ros2.console import Console
from robot.ros2.operators import ESTOP_QOS
from robot.ros2.reports import EVENT_QOS, STATUS_QOS
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
    view = ViewNode(graph.node, load_profile(path))
    statuses = graph.record(String, "/arm7/bridge/status", STATUS_QOS)
    try:
        graph.until(lambda: view.watch.moment().status.get("state") == "standby", "the page knows the bridge's state")
        graph.until(lambda: view.watch.moment().measured is not None, "the page knows the joints")
        graph.until(lambda: "front" in view.watch.moment().images, "the page has a picture")
        before = len(statuses)
        graph.until(lambda: len(statuses) > before + 5, "the bridge goes on")
        assert json.loads(statuses[-1].data)["state"] == "standby", "a page that only watches is no e-stop source that can be lost"
        Console(graph.node, "arm7", lambda text: None)  # the e-stop source, which says that nothing is pressed
        view.stop()
        assert view.said == "stop is pressed"
        graph.until(lambda: view.watch.moment().status.get("state") == "estop", "the button stops the bridge")
        assert not graph.trigger("/arm7/bridge/reset_fault").success, "one who presses is enough"
        view.release()
        assert "reset" in view.said
        graph.until(lambda: graph.trigger("/arm7/bridge/reset_fault").success, "the bridge is reset once it is released", 30.0)
        view.disarm()
        graph.until(lambda: view.said.startswith("disarm: "), "disarming is answered")
    finally:
        for process in (bridge, sim):
            process.stop()


def test_silence_of_the_page_says_nothing(graph: Graph) -> None:
    view = ViewNode(graph.node, load_profile(Path("configs/robots/arm7.yaml")))
    heard = graph.record(Bool, "/arm7/bridge/estop", ESTOP_QOS)
    view.stop()
    graph.until(lambda: len(heard) > 3, "a pressed button repeats itself")
    assert all(message.data for message in heard)
    view.release()
    graph.until(lambda: not heard[-1].data, "letting go is said")
    count = len(heard)
    graph.spin(0.5)
    assert len(heard) == count


def test_a_report_that_is_none_takes_no_button_away(graph: Graph) -> None:
    view = ViewNode(graph.node, load_profile(Path("configs/robots/arm7.yaml")))
    decided = graph.node.create_publisher(String, "/arm7/policy/decision", EVENT_QOS)
    graph.until(lambda: decided.get_subscription_count() > 0, "the page listens")
    for text in ("not json", '{"inference_s": 1, "age_s": 1}', "[]"):
        decided.publish(String(data=text))
    decided.publish(String(data='{"inference_s": 1, "age_s": 1, "instruction": "lift"}'))
    graph.until(lambda: view.watch.moment().instruction == "lift", "what is one is read")


def test_the_program_serves_until_told_to_stop(graph: Graph, tmp_path: Path) -> None:
    arguments = ["-m", "vla_rl.cli", "view", "configs/robots/arm7.yaml", "--port", "0"]
    process = Process(graph.context.get_domain_id(), arguments, tmp_path / "view.log")
    graph.until(lambda: "arm7: http://" in process.output() or not process.alive(), "the page is served")
    address = re.findall(r"http://\S+", process.output())[-1]
    assert urllib.request.urlopen(address, timeout=10).status == 200
    assert process.stop() == 0


def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such" in refused(["view", "nothing.yaml"], capsys)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "in use" in refused(["view", "configs/robots/arm7.yaml", "--port", port], capsys)
    assert "view: " in refused(["view", "configs/robots/arm7.yaml", "--host", "203.0.113.1"], capsys)
