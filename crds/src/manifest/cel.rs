//! One kind's definition, ready to check objects: the schema first, then, if that holds, the CEL rules, as the API server does. It reads no file.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_cel::{CompiledSchema, Validator, compile_schema};
use serde_json::Value;

use super::schema::{self, Problem};
use crate::crd;

/// A compiled definition.
pub(super) struct Definition {
    schema: Value,
    rules: CompiledSchema,
    validator: Validator,
}

impl Definition {
    /// Compiles a definition's schema and rules.
    pub(super) fn new(definition: &CustomResourceDefinition) -> Self {
        let schema = crd::schema(definition);
        Self { rules: compile_schema(&schema), schema, validator: Validator::new() }
    }

    /// What the API server would refuse in a new object. Nulls that it would drop are dropped, and `status`, which it would not take.
    pub(super) fn check(&self, object: &mut Value) -> Vec<Problem> {
        if let Some(object) = object.as_object_mut() {
            object.remove("status");
        }
        let problems = schema::check(&self.schema, object);
        if problems.is_empty() { self.check_rules(object, None) } else { problems }
    }

    /// The CEL rules alone; with an older object those about changes too.
    pub(super) fn check_rules(&self, object: &Value, older: Option<&Value>) -> Vec<Problem> {
        let failed = self.validator.validate_compiled(&self.rules, object, older).err();
        failed
            .into_iter()
            .flatten()
            .map(|error| Problem {
                field: if error.field_path.is_empty() { ".".to_owned() } else { error.field_path },
                message: error.message,
            })
            .collect()
    }
}
