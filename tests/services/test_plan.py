"""The plan: which services, in which order, as whom and with which environment: contract, "The file" and "Users"."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from run.services import order
from run.services.environment import for_service
from run.services.file import load, parse
from run.services.listing import listing, quoted
from run.services.plan import Given, Made, Plan, from_file, from_lines
from run.services.users import User

GIVEN = Given(
    [b"PATH=/bin", b"HOME=/given", b"PORT=80", b"EMPTY=", b"odd"],
    b"app:x:42:43::/srv/app:\n",
    b"app:x:43:\nmore:x:44:app\n",
)


def made(content: str, *selected: bytes, grace: float | None = None, checking: bool = False) -> Made:
    """The plan of a file that is right in itself."""
    found, errors = parse(content.encode(), "file")
    assert errors == []
    return from_file(found, list(selected), GIVEN, grace, checking)


def planned(content: str, *selected: bytes, grace: float | None = None) -> Plan:
    """The same, without errors and warnings."""
    plan, errors, warnings = made(content, *selected, grace=grace)
    assert (errors, warnings) == ([], [])
    assert plan is not None
    return plan


def services(**dependencies: str) -> str:
    """A file with these services, each with the names that it depends on."""
    return "".join(
        f"[services.{name}]\ncommand='{name}'\ndepends_on={on.split()}\n" for name, on in dependencies.items()
    )


def names(plan: Plan) -> list[str]:
    """The services of a plan in order of start."""
    return [service.name for service in plan.services]


def test_who_is_depended_on_is_before_and_equals_stay_in_the_files_order() -> None:
    assert names(planned(services(d="", c="b a", b="a", a=""))) == ["d", "a", "b", "c"]
    assert names(planned(services(z="", y="", x=""))) == ["z", "y", "x"]
    assert names(planned(services(p="b", q="a", a="", b=""))) == ["a", "b", "p", "q"]


def test_circles_that_share_a_name_are_all_found() -> None:
    assert order.circles({"a": ["b", "c"], "b": ["a"], "c": ["a"]}) == [["a", "b"], ["a", "c"]]
    assert order.circles({"x": ["a"], "a": ["b", "b"], "b": ["c"], "c": ["b", "a"]}) == [["b", "c"], ["a", "b", "c"]]
    assert order.circles({"a": ["a"], "b": []}) == [["a"]]


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=10))
def test_any_graph_is_either_in_order_or_has_a_circle(edges: list[list[int]]) -> None:
    graph = {str(name): list(map(str, others)) for name, others in enumerate(edges)}
    in_order = [name for step in order.steps(graph) for name in step]
    for place, name in enumerate(in_order):
        assert {other for other in graph[name] if other in graph} <= set(in_order[:place])
    circles = order.circles(graph)
    assert bool(circles) == (len(in_order) < len(graph))
    for circle in circles:
        assert all(after in graph[before] for before, after in zip(circle, circle[1:] + circle[:1], strict=True))


def test_a_chain_may_be_as_long_as_a_file() -> None:
    count = 20_000
    graph = {str(number): [str(number + 1)] for number in range(count)}
    assert [step for (step,) in order.steps(graph)] == [str(number) for number in reversed(range(count))]
    assert len(order.needed(graph, ["0"])) == count


def test_names_select_services_and_what_they_depend_on() -> None:
    content = services(a="", b="a", c="b", d="")
    assert names(planned(content, b"b")) == ["a", "b"]
    assert names(planned(content, b"d", b"b", b"d")) == ["a", "d", "b"]


def test_an_unknown_name_is_an_error_with_the_nearest() -> None:
    plan, (error,), _ = made(services(redis="", web=""), b"rediss")
    assert plan is None
    assert error == "file: unknown service 'rediss': redis, web are accepted; the nearest is 'redis'"


def test_what_is_not_selected_may_lack_its_variables_and_users() -> None:
    content = services(a="") + "[services.b]\ncommand='${NONE}'\nuser='nobody'\n"
    assert names(planned(content, b"a")) == ["a"]
    assert len(made(content).errors) == 2


def test_the_grace_is_the_files_unless_t_overrides_it() -> None:
    content = "stop_grace_period = 5\n" + services(a="")
    assert planned(content).grace == 5.0
    assert planned(content, grace=30.0).grace == 30.0


def test_defaults_are_those_of_the_contract() -> None:
    (service,) = planned("[services.a]\ncommand='a'").services
    assert service._asdict() == {
        "name": "a", "command": [b"a"], "environment": GIVEN.environment, "oneshot": False, "essential": True,
        "restart": "no", "restart_limit": None, "restart_delay": 0.1, "restart_max_delay": 60.0, "depends_on": (),
        "user": None, "identity": None, "working_dir": None, "umask": None, "added_environment": (),
        "unset_environment": (), "stop_signal": 15, "stop_grace_period": None, "kill_mode": "group", "daemon": False,
        "healthcheck": None, "on_unhealthy": "log", "output": "named",
    }  # fmt: skip


def test_every_key_reaches_its_service() -> None:
    (service,) = planned(
        """[services.a]
        command = "a ${PORT} '${NONE:-x y}' $$"
        oneshot = true
        essential = false
        restart = "on-failure:2"
        restart_delay = 1
        restart_max_delay = 2
        user = "${U:-app}"
        working_dir = "/${PORT}"
        umask = "077"
        environment = { A = "${PORT}", PORT = 8, HOME = "/own" }
        unset_environment = ["PATH"]
        stop_signal = "INT"
        stop_grace_period = "2s"
        kill_mode = "mixed"
        on_unhealthy = "restart"
        output = "null"
        """
    ).services
    assert service.command == [b"a", b"80", b"x y", b"$"]
    assert (service.oneshot, service.essential) == (True, False)
    assert (service.restart, service.restart_limit) == ("on-failure", 2)
    assert (service.restart_delay, service.restart_max_delay) == (1.0, 2.0)
    assert (service.user, service.identity) == ("app", User(42, 43, (43, 44), b"/srv/app", b"app"))
    assert (service.working_dir, service.umask) == (b"/80", 0o77)
    assert service.environment == [b"HOME=/own", b"PORT=8", b"EMPTY=", b"odd", b"USER=app", b"LOGNAME=app", b"A=80"]
    assert (service.stop_signal, service.stop_grace_period, service.kill_mode) == (2, 2.0, "mixed")
    assert (service.on_unhealthy, service.output) == ("restart", "null")


def test_a_value_is_never_split() -> None:
    given = GIVEN._replace(environment=[b"WORDS=a 'b  c' && \xff"])
    plan, errors, _ = from_lines([b"x ${WORDS} y"], given, None, None, False)
    assert plan and not errors
    assert plan.services[0].command == [b"x", b"a 'b  c' && \xff", b"y"]


@pytest.mark.parametrize(
    "key", ["command='a ${NONE}'", "user='${NONE}'", "working_dir='${NONE}'", "environment={A='${NONE}'}"]
)
def test_a_variable_that_is_not_set_is_an_error_and_with_n_a_warning(key: str) -> None:
    content = "[services.web]\n" + ("" if key.startswith("command") else "command='a'\n") + key
    plan, (error,), warnings = made(content)
    assert (plan, warnings) == (None, [])
    assert error.startswith(f"file: web: {key.partition('=')[0]}")
    assert "${NONE} is not set" in error
    plan, errors, warnings = made(content, checking=True)
    assert plan is not None and errors == [] and warnings == [error]


def test_an_unknown_user_is_an_error_also_with_n() -> None:
    for checking in (False, True):
        _, (error,), _ = made("[services.web]\ncommand='a'\nuser='ap'", checking=checking)
        assert error.startswith("file: web: user: unknown user 'ap'")


@pytest.mark.parametrize(
    "keys", ["command='${EMPTY}'", "command='a'\nworking_dir='${EMPTY}'", "command='a'\nuser='${EMPTY}'"]
)
def test_what_is_empty_with_the_variables_values_is_an_error(keys: str) -> None:
    assert len(made(f"[services.web]\n{keys}").errors) == 1


def test_a_file_that_is_not_there_is_an_error() -> None:
    assert load(b"/none/file.toml") == (None, ["/none/file.toml: cannot be read: No such file or directory"])


def test_the_environment_is_what_run_was_given_to_the_byte() -> None:
    given = [b"A=1", b"no equals", b"", b"=x", b"\xff=\xfe", b"A=2"]
    assert for_service(given, None, {}, []) == given
    assert for_service(given, None, {b"A": b"3"}, [b"B"]) == [b"A=3", *given[1:5]]
    assert for_service(given, None, {b"C": b""}, [b"A", b"\xff"]) == [b"no equals", b"", b"=x", b"C="]


def test_home_user_and_logname_are_the_users_unless_environment_says_otherwise() -> None:
    user = User(1, 2, (2,), b"/h", b"n")
    assert for_service([b"HOME=/x"], user, {}, []) == [b"HOME=/h", b"USER=n", b"LOGNAME=n"]
    assert for_service([], user, {b"HOME": b"/e"}, [b"USER"]) == [b"HOME=/e", b"LOGNAME=n"]


def lines(*commands: bytes, stop_signal: int | None = None, grace: float | None = None) -> Plan:
    """The plan of -m for these command lines, which are right."""
    plan, errors, warnings = from_lines(list(commands), GIVEN, stop_signal, grace, False)
    assert plan and not errors and not warnings
    return plan


def test_with_m_a_service_is_named_after_its_first_words_last_part() -> None:
    plan = lines(
        b"/usr/bin/redis-server a", b"redis-server", b"nginx -g 'daemon off;'", b"redis-server b", b"redis-server-2"
    )
    assert names(plan) == ["redis-server", "redis-server-2", "nginx", "redis-server-3", "redis-server-2-2"]
    assert plan.services[2].command == [b"nginx", b"-g", b"daemon off;"]


def test_with_m_a_name_is_one_that_a_file_could_have() -> None:
    long = b"x" * 100
    plan = lines(b"'/a b'", b"/bin/", b"/", long, long, b"\xff")
    assert names(plan) == ["a_b", "bin", "_", "x" * 64, "x" * 62 + "-2", "_-2"]


def test_with_s_each_is_essential_and_gets_the_signal_and_t_is_the_grace() -> None:
    plan = lines(b"a", b"b", stop_signal=3, grace=4.0)
    assert [(service.essential, service.stop_signal) for service in plan.services] == [(True, 3)] * 2
    assert plan.grace == 4.0
    assert lines(b"a", stop_signal=3).grace is None


def test_without_s_none_is_essential_and_the_grace_has_no_end() -> None:
    plan = lines(b"a", b"b", grace=4.0)
    assert [service.essential for service in plan.services] == [False, False]
    assert plan.grace is None


def test_each_wrong_command_line_is_a_line() -> None:
    plan, errors, _ = from_lines([b"a && b", b"ok", b"", b"'x", b"'' x", b"${NONE}"], GIVEN, None, None, False)
    assert plan is None
    assert len(errors) == 5
    assert errors[0].startswith("command line 1, 'a && b': '&&' is an operator of a shell: use sh -c")


def test_the_listing_has_the_order_the_words_the_user_and_the_changes() -> None:
    plan = planned(
        services(db="", web="db")
        + "user='app'\nworking_dir='/w'\nenvironment={A='b c'}\nunset_environment=['PATH']\nrestart='always:3'\n"
        + "stop_signal='QUIT'\nhealthcheck={tcp=80}\n"
    )
    assert listing(plan) == (
        "2 services, in order of start; 9 s to stop, in reverse order\n\n"
        "1. db\n"
        "   command      db\n"
        "   start        at once\n\n"
        "2. web\n"
        "   command      web\n"
        "   start        after db\n"
        "   user         app (uid 42, gid 43, groups 43 44), home /srv/app\n"
        "   directory    /w\n"
        "   environment  A='b c'\n"
        "   without      PATH\n"
        "   ready        when tcp 127.0.0.1:80 succeeds, tried each 1 s, within 60 s\n"
        "   health       tried each 30 s, for at most 30 s; unhealthy after 3 failures in\n"
        "                a row, which is logged\n"
        "   restart      always, after 0.1 s, doubled up to 60 s, at most 3 in a row\n"
        "   stop         QUIT (3) to its process group\n"
    )


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("app", "app (uid 42, gid 43, groups 43 44), home /srv/app"),
        ("app:more", "app:more (uid 42, gid 44), home /srv/app"),
        ("42", "42 (app, uid 42, gid 43, groups 43 44), home /srv/app"),
        ("42:7", "42:7 (app, uid 42, gid 7), home /srv/app"),
        ("7:7", "7:7 (uid 7, gid 7), home /"),
        ("${PORT}", "80 (uid 80, gid 0), home /"),
    ],
)
def test_the_listing_says_who_a_user_is_and_nothing_twice(user: str, shown: str) -> None:
    assert f"   user         {shown}\n" in listing(planned(services(x="") + f"user='{user}'\n"))


@pytest.mark.parametrize(
    ("plan", "first"),
    [
        (planned(services(a="")), "1 service; 9 s to stop"),
        (planned(services(a="", b="")), "2 services; 9 s to stop"),
        (planned(services(a="", b="a")), "2 services, in order of start; 9 s to stop, in reverse order"),
        (from_lines([b"a", b"b"], GIVEN, None, None, True).plan, "2 services; no limit of time to stop"),
    ],
)
def test_the_listing_begins_with_how_many_there_are_and_speaks_of_an_order_where_there_is_one(
    plan: Plan, first: str
) -> None:
    assert listing(plan).splitlines()[0] == first


@given(st.lists(st.text(alphabet="abc '\"$", min_size=1, max_size=12), min_size=1, max_size=40))
def test_the_listing_is_at_most_80_columns_wide_where_its_words_allow_that(words: list[str]) -> None:
    line = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words).replace("$", "$$")
    assert max(map(len, listing(lines(line.encode())).splitlines())) <= 80


def test_words_are_shown_quoted_as_a_shell_needs_them() -> None:
    words = [
        b"",
        b"a",
        b"a b",
        b"it's",
        b"$x",
        b"a\nb\\'",
        b"\xff\x00x".replace(b"\0", b""),
        "é\u0085".encode(),
        b"*",
        b"~",
    ]
    script = "printf '%s\\0' " + " ".join(map(quoted, words))
    done = subprocess.run(["bash", "-c", script.encode()], capture_output=True, check=True, timeout=300)
    assert done.stdout.split(b"\0")[:-1] == words
