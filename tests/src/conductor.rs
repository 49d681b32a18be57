//! What the operator is to workers, as little as a test needs: takes their reports, and tells each which tasks to hold. It never gives a task to a worker
//! while another one may be running it, unless the test says that the other one is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use millrace_crds::report::{Assignment, REPORT_VERSION, Report, TaskRef};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Most bytes of a report.
const MOST: usize = 1 << 20;

/// Listens on loopback while it lives.
#[derive(Debug)]
pub struct Conductor {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    _listening: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Book {
    /// Workers that are to share the tasks.
    workers: BTreeSet<String>,
    /// The last report of each worker that is not gone.
    reports: BTreeMap<String, Report>,
    /// What each was told last.
    told: BTreeMap<String, BTreeSet<TaskRef>>,
    /// All tasks that anybody has found.
    tasks: BTreeSet<TaskRef>,
}

impl Book {
    /// Tasks that a worker may be running.
    fn held(&self, worker: &str) -> BTreeSet<TaskRef> {
        let reported = self.reports.get(worker).into_iter().flat_map(|report| report.tasks.iter().map(|task| task.task.clone()));
        self.told.get(worker).into_iter().flatten().cloned().chain(reported).collect()
    }

    fn answer(&mut self, report: Report) -> Assignment {
        let worker = report.worker.clone();
        for input in &report.splits {
            self.tasks.extend(input.splits.iter().map(|split| TaskRef { input: input.input.clone(), split: split.clone() }));
        }
        self.reports.insert(worker.clone(), report);
        let others: BTreeSet<TaskRef> = self.reports.keys().filter(|other| **other != worker).flat_map(|other| self.held(other)).collect();
        let mut tasks = BTreeSet::new();
        if let Some(place) = self.workers.iter().position(|known| *known == worker) {
            let share = self.tasks.iter().enumerate().filter(|(number, _)| number % self.workers.len() == place);
            tasks.extend(share.map(|(_, task)| task.clone()).filter(|task| !others.contains(task)));
        }
        self.told.insert(worker, tasks.clone());
        Assignment { version: REPORT_VERSION, tasks: tasks.into_iter().collect(), draining: Vec::new(), enumerate: true }
    }
}

impl Conductor {
    /// Starts to listen.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen for reports")?;
        let address = listener.local_addr().context("a port")?;
        let book = Arc::new(Mutex::new(Book::default()));
        let mut listening = JoinSet::new();
        listening.spawn(listen(listener, Arc::clone(&book)));
        Ok(Self { address, book, _listening: listening })
    }

    /// Where workers report.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, these workers share the tasks. One that is left out lets go of what it holds.
    pub fn share(&self, workers: &[&str]) {
        self.book().workers = workers.iter().map(ToString::to_string).collect();
    }

    /// A worker is dead: whatever it held is free.
    pub fn gone(&self, worker: &str) {
        let mut book = self.book();
        book.reports.remove(worker);
        book.told.remove(worker);
    }

    /// The last report of each worker that is not gone.
    #[must_use]
    pub fn reports(&self) -> BTreeMap<String, Report> {
        self.book().reports.clone()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(listener: TcpListener, book: Arc<Mutex<Book>>) {
    let mut answering = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let book = Arc::clone(&book);
        answering.spawn(async move {
            // A worker that was killed while it reported is no failure of the test.
            let _broken = answer(stream, &book).await;
        });
        while answering.try_join_next().is_some() {}
    }
}

/// One request, one answer, and good-bye.
async fn answer(mut stream: TcpStream, book: &Mutex<Book>) -> Result<()> {
    let mut bytes = Vec::new();
    let body = loop {
        if let Some(body) = body(&bytes) {
            break body.to_vec();
        }
        anyhow::ensure!(bytes.len() < MOST, "a report is too long");
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "a report was cut");
    };
    let report: Report = serde_json::from_slice(&body).context("a report")?;
    let answer = serde_json::to_vec(&book.lock().unwrap_or_else(PoisonError::into_inner).answer(report))?;
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&answer).await?;
    Ok(stream.shutdown().await?)
}

/// The body of a request, once it is all there.
fn body(request: &[u8]) -> Option<&[u8]> {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&request[..end]).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    request.get(end..end + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(worker: &str, held: &[&str], found: &[&str]) -> Report {
        let task = |split: &&str| serde_json::json!({"task": {"input": "in", "split": split}, "phase": "Running"});
        serde_json::from_value(serde_json::json!({
            "version": 1, "namespace": "n", "pipeline": "p", "pipelineUid": "u", "worker": worker, "revision": "r", "sequence": 1, "phase": "Running",
            "check": {"revision": "r"}, "tasks": held.iter().map(task).collect::<Vec<_>>(),
            "splits": if found.is_empty() { serde_json::json!([]) } else { serde_json::json!([{"input": "in", "splits": found}]) },
        }))
        .unwrap()
    }

    fn splits(assignment: &Assignment) -> Vec<&str> {
        assignment.tasks.iter().map(|task| task.split.as_str()).collect()
    }

    #[test]
    fn a_task_moves_when_it_was_let_go_or_its_holder_is_gone() {
        let mut book = Book { workers: ["a".to_owned()].into(), ..Book::default() };
        assert_eq!(splits(&book.answer(report("a", &[], &["0", "1"]))), ["0", "1"]);
        book.workers.insert("b".to_owned());
        assert!(splits(&book.answer(report("b", &[], &[]))).is_empty(), "a was told of it");
        assert_eq!(splits(&book.answer(report("a", &["0", "1"], &[]))), ["0"]);
        assert!(splits(&book.answer(report("b", &[], &[]))).is_empty(), "a still reports it");
        assert_eq!(splits(&book.answer(report("a", &["0"], &[]))), ["0"]);
        assert_eq!(splits(&book.answer(report("b", &[], &[]))), ["1"]);
        book.reports.remove("a");
        book.told.remove("a");
        book.workers.remove("a");
        assert_eq!(splits(&book.answer(report("b", &["1"], &[]))), ["0", "1"]);
    }
}
