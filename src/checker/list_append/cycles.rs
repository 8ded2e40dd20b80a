//! Finds cycles, names them by the fewest kinds of edges that suffice, and picks the smallest.

use std::collections::VecDeque;

use super::graph::{Edge, Graph, Labels, Scratch};
use super::orders::Orders;
use super::report::{Anomaly, Cycle, Kind, Violations};
use super::{Txn, explain};

/// Edges that may be walked a level in search of smaller cycles, beyond the one search a component that always finds
/// one. With a store so broken that this is reached, cycles are not the smallest, and a G-single may be told as a G2.
const EDGES_MAX: u64 = 30_000_000;

/// Subgraphs, the gravest anomalies first, with what a cycle in one that is in none before it is.
const LEVELS: [(Labels, Cycle, bool); 6] = {
    let g1c = Labels::WW.or(Labels::WR);
    let g2 = g1c.or(Labels::RW);
    [
        (Labels::WW, Cycle::G0, false),
        (g1c, Cycle::G1c, false),
        (g2, Cycle::G2, false),
        (Labels::WW.or(Labels::RT), Cycle::G0, true),
        (g1c.or(Labels::RT), Cycle::G1c, true),
        (g2.or(Labels::RT), Cycle::G2, true),
    ]
};

/// One transaction comes before another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) why: Edge,
}

/// Reports, of each strongly connected component, a smallest cycle of the gravest kind that it has, and of less grave
/// kinds one that is smaller still: a stale read of two transactions tells more than a G2 of thirty that follows from
/// it.
pub(super) fn find(history: &[Txn], orders: &Orders, graph: &Graph, violations: &mut Violations) {
    let mut scratch = Scratch::new(graph);
    let everything = LEVELS[LEVELS.len() - 1].0.or(Labels::THROUGH);
    let nodes = 0..u32::try_from(graph.nodes()).expect("nodes are numbered with 32 bits");
    let components = graph.components(nodes, everything, |_| true, &mut scratch);
    if components.is_empty() {
        return;
    }
    let mut walker = Walker::new(graph);
    for component in components {
        let mut shortest = usize::MAX;
        for (level, (labels, cycle, real_time)) in LEVELS.into_iter().enumerate() {
            let labels = labels.or(Labels::THROUGH);
            let inside = |node: u32| component.binary_search(&node).is_ok();
            let parts = graph.components(component.iter().copied(), labels, inside, &mut scratch);
            let mut found = Vec::new();
            for part in &parts {
                let path = walker.search(part, labels, level, cycle == Cycle::G2);
                let steps = steps(&path, history.len());
                let cycle = if count_rw(&path) == 1 {
                    Cycle::GSingle
                } else {
                    cycle
                };
                if steps.len() < shortest {
                    found.push((steps, cycle));
                }
            }
            for (steps, cycle) in found {
                shortest = shortest.min(steps.len());
                let kind = kind(orders, &steps, cycle, real_time);
                violations.push(|| anomaly(history, orders, &steps, kind), kind);
            }
        }
    }
}

/// A lost append is a stale read whose missing element nobody else saw either.
fn kind(orders: &Orders, steps: &[Step], cycle: Cycle, real_time: bool) -> Kind {
    let mut labels = steps.iter().map(|step| step.why.label);
    let is_lost = |step: &Step| {
        step.why.label == Labels::RW
            && step.why.position as usize == orders.keys[step.why.key as usize].order.len()
    };
    if steps.len() == 2 && labels.any(|label| label == Labels::RT) && steps.iter().any(is_lost) {
        return Kind::LostAppend;
    }
    Kind::Cycle { cycle, real_time }
}

fn anomaly(history: &[Txn], orders: &Orders, steps: &[Step], kind: Kind) -> Anomaly {
    Anomaly {
        kind,
        txns: steps.iter().map(|step| step.from).collect(),
        steps: explain::cycle(history, orders, steps),
    }
}

/// A path over way stations as steps from transaction to transaction.
fn steps(path: &[(u32, Edge)], txns: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let first_txn = path
        .iter()
        .position(|(node, _)| (*node as usize) < txns)
        .expect("way stations alone make no cycle");
    let around = path[first_txn..].iter().chain(&path[..first_txn]);
    let mut open: Option<(usize, Edge)> = None;
    for (node, edge) in around {
        let (from, why) = open.take().unwrap_or((*node as usize, *edge));
        let to = edge.to as usize;
        if to < txns {
            steps.push(Step { from, to, why });
        } else {
            open = Some((from, why));
        }
    }
    steps
}

fn count_rw(path: &[(u32, Edge)]) -> usize {
    path.iter().filter(|(_, edge)| edge.label == Labels::RW).count()
}

const FAR: u32 = u32::MAX;

/// Breadth-first searches within one component. Edges that leave a way station cost nothing, so a path's length is its
/// number of transactions.
struct Walker<'g> {
    graph: &'g Graph,
    is_inside: Vec<bool>,
    confined_to: Vec<u32>,
    distance: Vec<u32>,
    /// The node before, and the edge from there.
    parent: Vec<(u32, Edge)>,
    reached: Vec<u32>,
    /// By level.
    edges_left: [u64; LEVELS.len()],
    level: usize,
}

type Path = Vec<(u32, Edge)>;

impl<'g> Walker<'g> {
    fn new(graph: &'g Graph) -> Walker<'g> {
        let nowhere = Edge {
            to: 0,
            label: Labels::THROUGH,
            key: 0,
            position: 0,
        };
        Walker {
            graph,
            is_inside: vec![false; graph.nodes()],
            confined_to: Vec::new(),
            distance: vec![FAR; graph.nodes()],
            parent: vec![(0, nowhere); graph.nodes()],
            reached: Vec::new(),
            edges_left: [EDGES_MAX; LEVELS.len()],
            level: 0,
        }
    }

    /// A small cycle within `part`. If it `may_have_rw`, one with a single rw edge goes before all others.
    fn search(&mut self, part: &[u32], labels: Labels, level: usize, may_have_rw: bool) -> Path {
        self.level = level;
        self.confine(part);
        let path = self.smallest(part, labels);
        if !may_have_rw || count_rw(&path) == 1 {
            return path;
        }
        self.smallest_with_one_rw(&path, part, labels).unwrap_or(path)
    }

    fn confine(&mut self, part: &[u32]) {
        for node in self.confined_to.drain(..) {
            self.is_inside[node as usize] = false;
        }
        for node in part {
            self.is_inside[*node as usize] = true;
        }
        self.confined_to.extend_from_slice(part);
    }

    /// The smallest cycle: around any one node, then around each node of that, and, while edges may be walked, of all
    /// nodes.
    fn smallest(&mut self, part: &[u32], labels: Labels) -> Path {
        let (mut length, mut best) = self
            .path(part[0], part[0], labels, FAR)
            .expect("every node of a strongly connected component is on a cycle");
        let mut at = 0;
        while at < best.len() && self.may_go_on(length) {
            let node = best[at].0;
            at += 1;
            if let Some(better) = self.path(node, node, labels, length) {
                (length, best) = better;
                at = 0;
            }
        }
        for node in part {
            if !self.may_go_on(length) {
                break;
            }
            if let Some(better) = self.path(*node, *node, labels, length) {
                (length, best) = better;
            }
        }
        best
    }

    /// Whether edges may still be walked for a cycle of fewer than `length` transactions; there is none of one.
    fn may_go_on(&self, length: u32) -> bool {
        length > 2 && self.edges_left[self.level] > 0
    }

    /// The smallest cycle with exactly one rw edge, if there is one and few enough edges are walked to find it. Begins
    /// with the nodes of a cycle that has more of them.
    fn smallest_with_one_rw(&mut self, cycle: &[(u32, Edge)], part: &[u32], labels: Labels) -> Option<Path> {
        let graph = self.graph;
        let mut best: Option<(u32, Path)> = None;
        for node in cycle.iter().map(|(node, _)| node).chain(part) {
            for edge in graph.edges(*node) {
                let shorter_than = best.as_ref().map_or(FAR, |(length, _)| *length);
                if !self.may_go_on(shorter_than.saturating_add(1)) {
                    return best.map(|(_, path)| path);
                }
                if edge.label != Labels::RW || !self.is_inside[edge.to as usize] {
                    continue;
                }
                let back = self.path(edge.to, *node, labels.without(Labels::RW), shorter_than);
                if let Some((length, mut path)) = back {
                    path.insert(0, (*node, *edge));
                    best = Some((length, path));
                }
            }
        }
        best.map(|(_, path)| path)
    }

    /// A shortest path of at least one edge, if it is `shorter_than` that.
    fn path(&mut self, from: u32, to: u32, labels: Labels, shorter_than: u32) -> Option<(u32, Path)> {
        let (mut arrival, mut queue) = (None, VecDeque::from([(from, 0)]));
        let mut best = shorter_than;
        self.distance[from as usize] = 0;
        self.reached.push(from);
        while let Some((node, distance)) = queue.pop_front() {
            if distance >= best {
                break;
            }
            if distance > self.distance[node as usize] {
                continue;
            }
            let edges = self.graph.edges(node);
            let edges_left = &mut self.edges_left[self.level];
            *edges_left = edges_left.saturating_sub(edges.len() as u64);
            for edge in edges {
                let is_free = edge.label == Labels::THROUGH;
                let length = distance + u32::from(!is_free);
                let next = edge.to as usize;
                if !labels.has(edge.label) || !self.is_inside[next] || length >= best {
                    continue;
                }
                if edge.to == to {
                    best = length;
                    arrival = Some((node, *edge));
                } else if length < self.distance[next] {
                    self.distance[next] = length;
                    self.parent[next] = (node, *edge);
                    self.reached.push(edge.to);
                    if is_free {
                        queue.push_front((edge.to, length));
                    } else {
                        queue.push_back((edge.to, length));
                    }
                }
            }
        }
        let path = arrival.map(|last| (best, self.trace(from, last)));
        for node in self.reached.drain(..) {
            self.distance[node as usize] = FAR;
        }
        path
    }

    fn trace(&self, from: u32, last: (u32, Edge)) -> Path {
        let mut path = vec![last];
        let mut node = last.0;
        while node != from {
            let step = self.parent[node as usize];
            path.push(step);
            node = step.0;
        }
        path.reverse();
        path
    }
}
