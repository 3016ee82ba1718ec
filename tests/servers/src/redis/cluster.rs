//! Three Redis nodes that share the slots.

use std::process::Command;
use std::time::Duration;

use super::{Options, Redis};
use crate::process::{READY_WITHIN, free_port, until};

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Redis>,
}

impl Cluster {
    /// Three primaries, all slots covered, every node of the same opinion.
    pub fn start() -> Self {
        let nodes: Vec<Redis> = (0..3).map(|_| node()).collect();
        let addresses: Vec<String> = nodes.iter().map(Redis::addr).collect();
        let create = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(&addresses)
            .arg("--cluster-yes")
            .output()
            .expect("redis-cli is missing: apt-get install redis-tools");
        assert!(create.status.success(), "the cluster was not made: {}", String::from_utf8_lossy(&create.stdout));
        let cluster = Self { nodes };
        cluster.agrees();
        cluster
    }

    /// `redis+cluster://` and all three nodes.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(Redis::addr).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// Moves `slots` slots of one node to another, keys included, while the cluster works.
    pub fn reshard(&self, from: usize, to: usize, slots: u16) {
        let id = |node: usize| self.nodes[node].command(&["CLUSTER", "MYID"]);
        let moved = Command::new("redis-cli")
            .args(["--cluster", "reshard", &self.nodes[0].addr()])
            .args(["--cluster-from", &id(from), "--cluster-to", &id(to)])
            .args(["--cluster-slots", &slots.to_string(), "--cluster-yes"])
            .output()
            .expect("redis-cli is missing: apt-get install redis-tools");
        let said = String::from_utf8_lossy(&moved.stdout);
        assert!(moved.status.success(), "the slots were not moved: {said}");
        self.agrees();
    }

    fn agrees(&self) {
        until("every node sees all slots of a cluster of three", READY_WITHIN, || {
            std::thread::sleep(Duration::from_millis(20));
            self.nodes.iter().all(|node| {
                let info = node.command(&["CLUSTER", "INFO"]);
                let says = |line: &str| info.lines().any(|one| one.trim_end() == line);
                says("cluster_state:ok") && says("cluster_slots_ok:16384") && says("cluster_known_nodes:3")
            })
        });
    }
}

/// A node with its bus on a free port too: the usual one, 10 000 above, may be taken or beyond the last port.
fn node() -> Redis {
    let bus = free_port().to_string();
    Options::new()
        .with(&["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port", &bus])
        // No test waits for a node to be declared dead, and where one is, the others refuse their own keys too.
        .with(&["--cluster-node-timeout", "60000"])
        .start()
}
