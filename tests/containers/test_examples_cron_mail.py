"""docker/examples/cron-mail: no mail is lost that is in the queue, whoever is killed, keepers included."""

import re
import subprocess

import pytest
from engine import Container, Containers, Images
from examples import answers, build, execute, inside, plan, story
from harness import DEADLINE, wait_until
from killing import Killer, check_lives, check_nobody_else, lines_of, services, wait_well

SEND = """
trap 'stop=1' TERM
echo $$ >/tmp/sender
n=0
while [ -z "$stop" ]; do
    n=$((n + 1))
    echo "this is mail $n" | sendmail mail && echo $n
done
"""


@pytest.fixture(scope="module")
def example(images: Images, bare_image: str) -> str:
    """The image of the example."""
    return build("cron-mail", images, bare_image)


def mailbox(container: Container) -> str:
    """All mails that were delivered so far."""
    return execute(container, "sh", "-c", "find /var/mail/mail/new -type f -exec cat {} + 2>/dev/null; :")


def mails(container: Container) -> set[str]:
    """The numbers of those that the test has sent. A mail may have come twice, whose delivery was killed at the end."""
    return set(re.findall(r"^this is mail (\d+)$", mailbox(container), re.MULTILINE))


def wait_delivered(container: Container) -> None:
    """Wait until nothing is in the queue."""
    wait_until(lambda: execute(container, "exim4", "-bpc").strip() == "0", "the queue is empty")


def test_no_mail_is_lost_that_was_queued_whoever_is_killed(containers: Containers, example: str) -> None:
    container = containers(example)
    wait_well(container)
    words = ["docker", "exec", container.name, "sh", "-c", SEND]
    sender = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        killer = Killer(container)
        killer.run()
        execute(container, "sh", "-c", "kill -TERM $(cat /tmp/sender)")
        queued = sender.communicate(timeout=DEADLINE)[0].split()
    finally:
        sender.kill()  # the client alone: if all went well it has ended, and if not the container is removed
        sender.wait()
    print(f"{len(queued)} queued")
    wait_well(container)
    wait_delivered(container)

    assert queued and not set(queued) - mails(container)
    check_lives(container, killer.killed)
    check_nobody_else(container)
    check_log(container)
    assert container.stop() == 0
    container.start_again()
    wait_well(container)
    assert not set(queued) - mails(container)
    assert container.stop() == 0


def check_log(container: Container) -> None:
    """What exim has written into its log is shown, the last line, too."""
    lines = execute(container, "cat", "/var/log/exim4/mainlog").splitlines()
    assert any("Completed" in line for line in lines)
    wait_until(lambda: not set(lines) - set(lines_of(container, "log")), "all lines of exim's log")


def test_a_job_of_cron_writes_a_mail(containers: Containers, example: str) -> None:
    container = containers(example)
    wait_until(lambda: "cron has begun" in mailbox(container), "cron's mail is delivered")
    assert container.stop() == 0


def test_both_have_put_themselves_into_the_background(containers: Containers, example: str) -> None:
    container = containers(example)
    wait_well(container)
    pids = {service["name"]: service["pid"] for service in services(container)}
    wait_until(lambda: {"exim4", "cron"} <= {process.name for process in inside(container)}, "both daemons")
    for service, name in ("exim", "exim4"), ("cron", "cron"):
        found = [process for process in inside(container) if process.name == name and process.parent == pids[service]]
        assert found and all(process.session not in (1, pids[service]) for process in found)
    assert container.stop() == 0


def test_what_a_killed_keeper_leaves_does_not_outlive_it(containers: Containers, example: str) -> None:
    """An old cron that lives would not let a new one start: it has locked its file."""
    container = containers(example)
    wait_well(container)
    old = wait_until(lambda: [process.pid for process in inside(container) if process.name == "cron"], "cron")
    (pid,) = (service["pid"] for service in services(container) if service["name"] == "cron")
    execute(container, "sh", "-c", f"kill -KILL {pid}")
    wait_until(lambda: container.logs().count("): started cron") == 2, "cron is started again")
    wait_until(lambda: not answers(container, "test", "-e", f"/proc/{old[0]}"), "the old one is gone")
    wait_well(container)
    assert "can't lock" not in container.logs()
    assert container.stop() == 0


def test_they_stop_in_order(containers: Containers, example: str) -> None:
    container = containers(example)
    wait_well(container)
    assert container.stop() == 0
    steps = story(container)
    assert steps[steps.index("shutdown, since TERM (15) has come") + 1 :] == [
        "sending TERM (15) to cron",
        "cron: exited with code 143; stopped",
        "sending TERM (15) to exim",
        "exim: exited with code 0; stopped",
        "sending TERM (15) to log",
        "log: killed by TERM (15); stopped",
        "no process is left: exiting with code 0",
    ]


def test_the_plan_is_in_order_of_start(example: str) -> None:
    assert plan(example) == ["1. log", "2. exim", "3. cron"]
