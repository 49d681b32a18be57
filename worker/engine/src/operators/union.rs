//! UNION ALL: the rows of all ports, each marked with the way it took. Never reorders the rows of one port.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use super::alignment::Alignment;
use super::{Blueprint, ExecuteError, Message, Operator, Output};
use crate::batch::{Batch, branch};

/// [`branch`] tells ways apart as long as the indices of one union stay below this.
const RADIX: usize = 31;

/// A union as it stands in the plan.
#[derive(Clone, Debug)]
pub(crate) struct UnionBlueprint {
    /// For each port, the positions of the schema's columns in what arrives there.
    pub(crate) ports: Vec<Vec<usize>>,
    /// The columns that come out.
    pub(crate) schema: SchemaRef,
}

impl Blueprint for UnionBlueprint {
    fn kind(&self) -> &'static str {
        "union"
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn identity(&self) -> String {
        let columns: Vec<String> = self.schema.fields().iter().map(|f| format!("{:?} {}", f.name(), f.data_type())).collect();
        format!("union {:?} AS {}", self.ports, columns.join(", "))
    }

    fn explain(&self) -> String {
        let columns: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        columns.join(", ")
    }

    fn lineage(&self, column: usize) -> Option<Vec<usize>> {
        self.ports.iter().map(|port| port.get(column).copied()).collect()
    }

    fn operator(&self, _id: &Arc<str>, ports: &[usize]) -> Box<dyn Operator> {
        Box::new(UnionBranch { blueprint: self.clone(), alignment: Alignment::new(ports) })
    }
}

/// The operator. Its alignment holds no more than what the ports said since the last barrier, so it contributes nothing to a snapshot.
struct UnionBranch {
    blueprint: UnionBlueprint,
    alignment: Alignment,
}

impl Operator for UnionBranch {
    fn push(&mut self, port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        match self.alignment.admit(port, message) {
            Some(Message::Batch(batch)) => output.emit(Message::Batch(self.mark(port, batch)?)),
            Some(other) => output.emit(other),
            None => {}
        }
        Ok(())
    }
}

impl UnionBranch {
    fn mark(&self, port: usize, batch: Batch) -> Result<Batch, ExecuteError> {
        let columns = self.blueprint.ports[port].iter().map(|column| Arc::clone(batch.records.column(*column))).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.blueprint.schema), columns, &options)?;
        Ok(Batch { records, branch: mark(batch.branch, port, self.blueprint.ports.len()), ..batch })
    }
}

/// The branch of rows of `parent` that come through port `port` of `ports`. Unions with many ports mix the port in digit by digit, as many digits for
/// each of their ports, so that two ways never meet in one branch.
fn mark(parent: u64, port: usize, ports: usize) -> u64 {
    let mut place = 1;
    while place * RADIX < ports {
        place *= RADIX;
    }
    let mut marked = parent;
    while place > 0 {
        marked = branch(marked, port / place % RADIX);
        place /= RADIX;
    }
    marked
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_first_way_keeps_branch_zero() {
        assert_eq!(mark(0, 0, 2), 0);
        assert_eq!(mark(0, 0, 1000), 0);
        assert_eq!(mark(0, 1, 2), branch(0, 1));
    }

    #[test]
    fn no_two_ways_share_a_branch() {
        // Every way through a union of `inner` ports that feeds each port of a union of `outer` ports, beside ports that are fed directly.
        for (inner, outer) in [(2, 2), (31, 31), (2, 32), (40, 40), (1000, 5)] {
            let mut seen = HashSet::new();
            for port in 0..outer {
                if port % 2 == 0 {
                    assert!(seen.insert(mark(0, port, outer)), "port {port} of {outer}");
                } else {
                    for way in 0..inner {
                        assert!(seen.insert(mark(mark(0, way, inner), port, outer)), "way {way} of {inner}, port {port} of {outer}");
                    }
                }
            }
        }
    }
}
