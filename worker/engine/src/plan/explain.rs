//! The plan for people: inputs with the columns that are read, operators with what they do, outputs with their columns. Never the whole truth; that is the hash.

use std::fmt::{self, Display, Formatter};

use super::graph::{Graph, columns};

impl Display for Graph {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for input in &self.inputs {
            let read = input.schema.fields().len();
            writeln!(f, "input {} ({read} of {} columns){}", input.name, input.declared, input.revised())?;
            if read > 0 {
                writeln!(f, "    {}", columns(&input.schema))?;
            }
        }
        for node in &self.nodes {
            let upstreams: Vec<&str> = node.upstreams.iter().map(|upstream| self.name(*upstream)).collect();
            writeln!(f, "{} ← {}", node.id, upstreams.join(", "))?;
            let explained = node.blueprint.explain();
            if !explained.is_empty() {
                writeln!(f, "    {explained}")?;
            }
        }
        for output in &self.outputs {
            writeln!(f, "output {} ← {}", output.plan.name, self.name(output.from))?;
            writeln!(f, "    {}", columns(&output.plan.schema))?;
        }
        Ok(())
    }
}
