"""meshctl against two real sidecars: what it shows is what there is, and its exit codes say so."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path
from xml.etree import ElementTree

from mesh import Agent, Mesh, ask


class Meshctl(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.mesh = Mesh({"echo": {}})
        cls.agent = Agent(cls.mesh.agent_ports["echo"], lambda body: body)
        cls.mesh.wait_for_agents()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.mesh.stop()
        cls.agent.stop()

    def run_ctl(self, *arguments: str, configs=("a", "b"), expect: int = 0) -> str:
        command = [os.environ["MESHCTL"]]
        for host in configs:
            command += ["--config", self.mesh.config_path(host)]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        self.assertNotIn("\x1b", done.stdout)  # not a terminal
        return done.stdout

    def test_status_shows_every_sidecar_agent_and_peer(self) -> None:
        text = self.run_ctl("status")
        for word in ("a/main", "b/main", "agent", "echo", "peer", "ok, up "):
            self.assertIn(word, text)
        sidecars = json.loads(self.run_ctl("--json", "status"))["sidecars"]
        self.assertEqual({sidecar["host"] for sidecar in sidecars}, {"a", "b"})

    def test_top_counts_what_was_asked_between_two_looks(self) -> None:
        client = self.mesh.client("echo")
        stop = threading.Event()
        asked = []

        def load() -> None:
            while not stop.is_set():
                ask(client, b"x" * 100)
                asked.append(time.monotonic())
                time.sleep(0.01)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            lines = self.run_ctl("--json", "top", "--interval", "0.5", "--count", "3").splitlines()
        finally:
            stop.set()
            thread.join()
        self.assertEqual(len(lines), 3)
        rates = [service["rate"] for line in lines for service in json.loads(line)["services"]
                 if service["service"] == "echo"]
        true_rate = len(asked) / (asked[-1] - asked[0])
        self.assertAlmostEqual(sum(rates) / len(rates), true_rate, delta=0.3 * true_rate)
        echo = json.loads(lines[1])["services"][0]
        self.assertEqual(echo["service"], "echo")
        self.assertGreater(echo["p99_us"], 0)
        self.assertIn("per second", self.run_ctl("top", "--interval", "0.1", "--count", "1"))

    def test_a_probe_of_a_host_touches_no_agent_and_accounts_for_its_round_trips(self) -> None:
        executed = len(self.agent.executed)
        with tempfile.TemporaryDirectory() as directory:
            picture = Path(directory) / "probe.svg"
            result = json.loads(self.run_ctl("--json", "probe", "b", "--count", "50", "--sizes", "128,20000",
                                             "--svg", str(picture)))
            self.assertTrue(ElementTree.parse(picture).getroot().tag.endswith("svg"))
        self.assertEqual(len(self.agent.executed), executed)
        self.assertEqual([size["bytes"] for size in result["sizes"]], [128, 20000])
        for size in result["sizes"]:
            for path in ("mesh", "direct"):
                self.assertEqual(size[path]["count"], 50)
                self.assertLessEqual(size[path]["p50_us"], size[path]["p99_us"])
            stages = {stage["stage"]: stage["p50_us"] for stage in size["stages"]}
            self.assertIn("link_out", stages)
            self.assertIn("link_back", stages)
            self.assertLessEqual(sum(stages.values()), 2 * size["mesh"]["p50_us"])
        self.assertGreater(result["clock"]["bound_us"], 0)

    def test_a_probe_of_a_service_asks_its_agent(self) -> None:
        executed = len(self.agent.executed)
        text = self.run_ctl("probe", "echo", "--body", "hello", "--count", "20", "--direct",
                            f"tcp://127.0.0.1:{self.mesh.agent_ports['echo']}")
        self.assertGreaterEqual(len(self.agent.executed) - executed, 40)
        for word in ("libzmq, direct", "agent", "link_out", "added p50"):
            self.assertIn(word, text)

    def test_a_probe_says_what_it_misses(self) -> None:
        self.run_ctl("probe", "nowhere", "--count", "1", expect=64)
        self.run_ctl("probe", "echo", "--count", "1", expect=64)  # a service needs a body
        self.run_ctl("probe", "b", "--count", "1", configs=("b",), expect=64)  # no mesh socket there

    def test_explain_is_a_page_for_people(self) -> None:
        client = self.mesh.client("echo")
        ask(client, b"explain me")
        text = self.run_ctl("explain", "--newest")
        for word in ("a/main-", "echo", "OK", "the only one", "link_out", "agent", "time left", "clocks"):
            self.assertIn(word, text)
        self.run_ctl("explain", "999999999", expect=1)

    def test_check_passes_here_and_says_what_to_mend_elsewhere(self) -> None:
        findings = json.loads(self.run_ctl("--json", "check"))["findings"]
        self.assertFalse([finding for finding in findings if finding["verdict"] == "bad"])
        admin = Path(self.mesh.directory.name) / "a" / "main.admin"
        admin.chmod(0o666)
        try:
            text = self.run_ctl("check", expect=1)
        finally:
            admin.chmod(0o600)
        self.assertIn("✗ a/main admin socket", text)
        self.assertIn("chmod 0600", text)

    def test_check_tells_all_errors_of_a_configuration(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            broken = Path(directory) / "broken.json"
            broken.write_text('{"host": "", "sidecars": {}, "agents": {"x": {}}}')
            done = subprocess.run([os.environ["MESHCTL"], "--config", str(broken), "check"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 78)
        self.assertGreaterEqual(done.stdout.count("✗"), 3)

    def test_whoever_is_not_there_is_an_exit_code(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            config = json.loads(Path(self.mesh.config_path("a")).read_text()) | {"runtime_dir": directory}
            path = Path(directory) / "a.json"
            path.write_text(json.dumps(config))
            for arguments, code in ((["status"], 69), (["explain", "--newest"], 69), (["check"], 1)):
                done = subprocess.run([os.environ["MESHCTL"], "--config", str(path), *arguments], capture_output=True)
                self.assertEqual(done.returncode, code, arguments)
        self.assertEqual(subprocess.run([os.environ["MESHCTL"], "nonsense"], capture_output=True).returncode, 64)

    def test_options_of_the_program_may_stand_behind_the_subcommand(self) -> None:
        self.assertEqual(json.loads(self.run_ctl("status", "--json"))["sidecars"][0]["host"], "a")
        alone = json.loads(self.run_ctl("status", "--json", "--sidecar", "b/main"))["sidecars"]
        self.assertEqual([sidecar["host"] for sidecar in alone], ["b"])
        self.run_ctl("status", "--sidecar", "nobody/main", expect=64)

    def test_check_knows_another_program_on_a_sidecars_port(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        try:
            with tempfile.TemporaryDirectory() as directory:
                config = json.loads(Path(self.mesh.config_path("a")).read_text())
                there = config["peers"]["b"]["sidecars"]["main"]
                there["endpoint"] = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
                path = Path(directory) / "a.json"
                path.write_text(json.dumps(config))
                done = subprocess.run([os.environ["MESHCTL"], "--config", str(path), "check"], capture_output=True,
                                      text=True, timeout=60)
        finally:
            listener.close()
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("another program", done.stdout)

    def test_top_ends_well_at_an_interrupt(self) -> None:
        top = subprocess.Popen([os.environ["MESHCTL"], "--config", self.mesh.config_path("a"), "top", "--json",
                                "--interval", "0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertIn("services", json.loads(top.stdout.readline()))
        top.send_signal(signal.SIGINT)
        _, errors = top.communicate(timeout=10)
        self.assertEqual((top.returncode, errors), (0, ""))

    def test_completions_know_every_subcommand_and_bash_takes_them(self) -> None:
        for shell in ("bash", "zsh", "fish"):
            script = self.run_ctl("completion", shell)
            for word in ("explain", "status", "top", "probe", "check", "slowest", "interval"):
                self.assertIn(word, script)
        completed = subprocess.run(
            ["bash", "-c", f"source <({os.environ['MESHCTL']} completion bash); COMP_WORDS=(meshctl explain --sl); "
                           "COMP_CWORD=2; _meshctl; echo ${COMPREPLY[@]}"], capture_output=True, text=True)
        self.assertEqual(completed.stdout.strip(), "--slowest")


if __name__ == "__main__":
    unittest.main(verbosity=2)
