//! Tasks that keep state: windows over several splits, state in epochs, watermarks. What has come out must be what an uninterrupted run gives.
//!
//! * [`scene`]: a Pipeline that counts per window and key, and everything that outlives its processes. [`splits`]: its source. [`results`]: its sink.
//! * [`exchange`]: the same in two stages.
//! * [`increments`]: state stored by what has changed. [`recovery`]: crashes, state files that are damaged, plans that do not fit. [`time`]: idle and late splits, draining, limits.
//! * [`shared`]: a task for each split, and a task in lanes. [`spilled`]: state that has no room in memory. [`loaded`]: how much of it is read after a restart.

mod exchange;
mod increments;
mod loaded;
mod recovery;
mod results;
mod scene;
mod shared;
mod spilled;
mod splits;
mod time;
