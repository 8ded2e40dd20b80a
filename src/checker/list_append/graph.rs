//! A directed graph in compressed rows, and its strongly connected components by Tarjan's algorithm (1972) without
//! recursion: a component may hold a million nodes.

/// Why one node comes before another, as a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Labels(u8);

impl Labels {
    pub(super) const WW: Labels = Labels(1);
    pub(super) const WR: Labels = Labels(2);
    pub(super) const RW: Labels = Labels(4);
    /// Real time.
    pub(super) const RT: Labels = Labels(8);
    /// Leads on from a node that is no transaction, under the label by which that was reached. In every subgraph.
    pub(super) const THROUGH: Labels = Labels(16);

    pub(super) const fn or(self, other: Labels) -> Labels {
        Labels(self.0 | other.0)
    }

    pub(super) const fn without(self, other: Labels) -> Labels {
        Labels(self.0 & !other.0)
    }

    pub(super) const fn has(self, other: Labels) -> bool {
        self.0 & other.0 != 0
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) to: u32,
    pub(super) label: Labels,
    /// Of a ww, wr or rw edge: the number of the key it comes from.
    pub(super) key: u32,
    /// Of a ww, wr or rw edge: a position in the key's order. ww: of the element appended next; wr: of the last
    /// element read; rw: of the first element not read.
    pub(super) position: u32,
}

/// Collects edges in any order.
#[derive(Debug)]
pub(super) struct Builder {
    nodes: usize,
    edges: Vec<(u32, Edge)>,
}

impl Builder {
    pub(super) fn new(nodes: usize) -> Builder {
        Builder {
            nodes,
            edges: Vec::new(),
        }
    }

    pub(super) fn add_node(&mut self) -> usize {
        self.nodes += 1;
        self.nodes - 1
    }

    pub(super) fn add(&mut self, from: usize, to: usize, label: Labels, (key, position): (usize, usize)) {
        let edge = Edge {
            to: small(to),
            label,
            key: small(key),
            position: small(position),
        };
        self.edges.push((small(from), edge));
    }

    pub(super) fn build(self) -> Graph {
        let mut rows = vec![0_u32; self.nodes + 1];
        for (from, _) in &self.edges {
            rows[*from as usize + 1] += 1;
        }
        for node in 0..self.nodes {
            rows[node + 1] += rows[node];
        }
        let mut free = rows.clone();
        let nothing = Edge {
            to: 0,
            label: Labels(0),
            key: 0,
            position: 0,
        };
        let mut edges = vec![nothing; self.edges.len()];
        for (from, edge) in self.edges {
            let at = &mut free[from as usize];
            edges[*at as usize] = edge;
            *at += 1;
        }
        Graph { rows, edges }
    }
}

/// A history has fewer than 2^31 operations.
fn small(number: usize) -> u32 {
    u32::try_from(number).expect("a history has few enough operations for 32 bits")
}

#[derive(Debug)]
pub(super) struct Graph {
    /// Where each node's edges begin.
    rows: Vec<u32>,
    edges: Vec<Edge>,
}

/// Marks nodes that no search has seen.
const UNSEEN: u32 = u32::MAX;

impl Graph {
    pub(super) fn nodes(&self) -> usize {
        self.rows.len() - 1
    }

    pub(super) fn edges(&self, node: u32) -> &[Edge] {
        &self.edges[self.first(node)..self.first(node + 1)]
    }

    fn first(&self, node: u32) -> usize {
        self.rows[node as usize] as usize
    }

    /// The strongly connected components with more than one node of the subgraph that has all nodes and the edges with
    /// one of `labels`, of which both ends pass `inside`; only such as `roots` reach. Each is sorted.
    pub(super) fn components(
        &self,
        roots: impl Iterator<Item = u32>,
        labels: Labels,
        inside: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<Vec<u32>> {
        let mut found = Vec::new();
        for root in roots {
            if inside(root) && scratch.number[root as usize] == UNSEEN {
                self.tarjan(root, labels, &inside, scratch, &mut found);
            }
        }
        scratch.clear();
        found
    }

    fn tarjan(
        &self,
        root: u32,
        labels: Labels,
        inside: &impl Fn(u32) -> bool,
        scratch: &mut Scratch,
        found: &mut Vec<Vec<u32>>,
    ) {
        // Where the recursion would be: a node, and the next of its edges to follow.
        let mut path: Vec<(u32, usize)> = vec![(root, self.first(root))];
        scratch.open(root);
        while let Some((node, next)) = path.last_mut() {
            let node = *node;
            if *next == self.first(node + 1) {
                path.pop();
                if let Some((parent, _)) = path.last() {
                    let low = scratch.low[node as usize].min(scratch.low[*parent as usize]);
                    scratch.low[*parent as usize] = low;
                }
                if scratch.low[node as usize] == scratch.number[node as usize] {
                    scratch.close(node, found);
                }
                continue;
            }
            let edge = self.edges[*next];
            *next += 1;
            if !labels.has(edge.label) || !inside(edge.to) {
                continue;
            }
            if scratch.number[edge.to as usize] == UNSEEN {
                scratch.open(edge.to);
                path.push((edge.to, self.first(edge.to)));
            } else if scratch.is_open[edge.to as usize] {
                let low = scratch.low[node as usize].min(scratch.number[edge.to as usize]);
                scratch.low[node as usize] = low;
            }
        }
    }
}

/// Tarjan's marks, for any number of runs. A run costs what it visits, not the size of the graph.
#[derive(Debug)]
pub(super) struct Scratch {
    /// In which order the nodes were reached.
    number: Vec<u32>,
    /// The lowest number that a node reaches through open nodes.
    low: Vec<u32>,
    is_open: Vec<bool>,
    stack: Vec<u32>,
    visited: Vec<u32>,
}

impl Scratch {
    pub(super) fn new(graph: &Graph) -> Scratch {
        Scratch {
            number: vec![UNSEEN; graph.nodes()],
            low: vec![UNSEEN; graph.nodes()],
            is_open: vec![false; graph.nodes()],
            stack: Vec::new(),
            visited: Vec::new(),
        }
    }

    fn open(&mut self, node: u32) {
        let number = small(self.visited.len());
        self.number[node as usize] = number;
        self.low[node as usize] = number;
        self.is_open[node as usize] = true;
        self.stack.push(node);
        self.visited.push(node);
    }

    /// Takes the component of `node`, its first one reached, from the stack.
    fn close(&mut self, node: u32, found: &mut Vec<Vec<u32>>) {
        let at = self
            .stack
            .iter()
            .rposition(|open| *open == node)
            .expect("an open node is stacked");
        for member in &self.stack[at..] {
            self.is_open[*member as usize] = false;
        }
        if self.stack.len() - at > 1 {
            let mut component = self.stack.split_off(at);
            component.sort_unstable();
            found.push(component);
        } else {
            self.stack.truncate(at);
        }
    }

    fn clear(&mut self) {
        for node in self.visited.drain(..) {
            self.number[node as usize] = UNSEEN;
        }
    }
}
