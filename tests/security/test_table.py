"""The escape suite counted: what it attacks, and that each attack is seen to succeed where its protection is away."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

# What is attacked -> tests, each of which has its control in it, as module.test.
TABLE = {
    "files and links that a helper follows": [
        "test_deputy.test_deleting_a_link_spares_what_it_names",
        "test_downloads.test_nothing_lands_outside",
        "test_downloads.test_no_device_is_made",
        "test_downloads.test_no_program_is_set_uid",
        "test_hostile_archives.test_what_is_uploaded_lands_in_the_sandbox",
        "test_hostile_repositories.test_what_a_tree_says_stays_in_its_folder",
        "test_git.test_a_transport_that_runs_programs_is_not_reached_by_a_detour",
        "test_public_cases.test_cve_2024_28185_and_28189_no_link_is_followed_out",
    ],
    "processes": [
        "test_host_processes.test_it_is_not_seen",
        "test_host_processes.test_it_gets_no_signal",
        "test_host_processes.test_its_memory",
    ],
    "the agent": [
        "test_agent.test_the_agent_is_not_seen",
        "test_agent.test_the_first_process",
        "test_agent.test_the_first_process_outlives_signals",
        "test_agent.test_the_channel_of_a_cell_is_no_way_to_the_agent",
        "test_agent.test_the_agent_has_no_file_of_the_sandbox_mapped",
        "test_public_cases.test_cve_2019_5736_reaches_no_program_of_the_host",
    ],
    "the server's sockets": [
        "test_inner_way.test_cve_2024_29021",
        "test_other_user.test_another_user",
        "test_network.test_a_port_of_the_host",
    ],
    "calls of the kernel": [
        "test_privileges.test_a_privileged_call",
        "test_privileges.test_a_file_of_the_kernel",
        "test_system_calls.test_each_denied_call_is_refused",
        "test_system_calls.test_a_socket",
    ],
    "devices": [
        "test_deputy.test_a_device",
        "test_privileges.test_the_devices_are_the_hosts_and_stay_as_they_are",
        "test_privileges.test_nothing_can_be_typed_into_a_terminal",
    ],
    "descriptors": [
        "test_agent.test_a_command_inherits_three_descriptors",
        "test_public_cases.test_cve_2024_21626_no_folder_by_a_descriptor_leads_out",
        "test_deputy.test_a_folder_of_a_process",
    ],
    "network": [
        "test_network.test_a_port_of_the_host",
        "test_network.test_a_datagram_to_the_host",
        "test_network.test_an_abstract_socket_of_the_host",
        "test_network.test_raw_packets",
        "tests.egress.test_bypass.test_what_the_policy_does_not_name",
        "tests.egress.test_addresses_played.test_a_public_address_of_the_server_itself",
    ],
    "resources": [
        "test_shares.test_what_one_takes_the_other_still_has",
        "test_shares.test_descriptors_that_are_on_their_way_leave_the_agent_its_own",
        "test_shares.test_one_takes_few_of_the_machines_terminals",
        "test_shares.test_limits_of_the_servers_user_are_not_the_sandboxs",
    ],
    "other sandboxes": [
        "test_neighbours.test_what_one_makes_the_other_does_not_find",
        "test_neighbours.test_a_lock_on_a_shared_program",
        "test_neighbours.test_what_another_does_with_a_shared_program",
        "test_neighbours.test_keys",
    ],
}
WORDS = ("control", "outside(", "unprotected", "_naive(", "assert inside(first, find).reached")


def _test(name: str) -> Any:
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(module if "." in module else f"tests.security.{module}"), function)


def _cases(test: Any) -> int:
    """How many tests pytest makes of it, without those of fixtures."""
    count = 1
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            count *= len(list(mark.args[1]))
    return count


@pytest.mark.parametrize("group", TABLE)
def test_each_attack_has_its_control(group: str) -> None:
    assert len(TABLE[group]) >= 3
    for name in TABLE[group]:
        source = inspect.getsource(_test(name)).lower()
        assert any(word in source for word in WORDS), f"{name} has no control"


def test_there_are_enough() -> None:
    counted = {group: sum(_cases(_test(name)) for name in names) for group, names in TABLE.items()}
    assert sum(counted.values()) >= 60, counted
    assert min(counted.values()) >= 3, counted
    print(counted)
