//! What tests need from outside: real servers, a real Kubernetes cluster, and images made without a container engine.
//! It never stands in for a user's system: nothing in here pretends to be one.
//!
//! ```text
//!  install     Millrace in the cluster: both charts, and namespaces for Pipelines
//!  installed   where tests/setup/install.sh put the programs        poll     wait for a condition, with a deadline
//!  servers     Kafka, OpenSearch, moto (S3, SQS, …), etcd, proxies that fail and that kill on demand, fronts that want a password
//!     process  one program: its log, its process group, its end     reaper   ends all of them if the test is killed
//!  cluster     Kubernetes: control plane on the host, each node in namespaces of its own; or the one that KUBECONFIG names
//!  conductor   the operator's part towards workers, where workers are processes and there is no cluster
//!  access_logs the main job: known lines, and what must have become of them
//!  committed   what a reader finds that sees only what is committed
//!  dice        numbers that look random and are the same in every run
//!  sales       records, and the windows and totals that they must come to, for tests in which a worker dies
//!  numbered    numbered records, and whether each is passed on once and in order, for tests in which brokers die
//!  endurance   a shared Pipeline in the cluster under steady load, while everything happens to it
//!  drain       Millrace, Kafka Streams and Flink, from topics full of records
//!  transcript  pages of what kubectl prints, compared with the committed ones
//!  fuzz        mutated inputs for everything that reads bytes from outside
//!  nexmark     Millrace and Flink, the same queries over the same events        measure  CPU and memory of a program, from /proc
//!  image       the images of worker and operator, from their Dockerfiles, as archives
//! ```
//!
//! Everything binds loopback or the cluster's bridge, lives in a directory of its own, and ends with its value:
//! dropping a server kills it, dropping the last handle of a cluster removes it.

pub mod access_logs;
pub mod certificates;
pub mod cluster;
mod command;
pub mod committed;
pub mod conductor;
pub mod dice;
pub mod drain;
pub mod endurance;
pub mod fuzz;
mod hex;
pub mod image;
pub mod install;
pub mod installed;
pub mod measure;
pub mod nexmark;
pub mod numbered;
pub mod poll;
pub mod sales;
pub mod servers;
pub mod transcript;
