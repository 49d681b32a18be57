//! Reads the last stage of a Dockerfile. It never guesses: an instruction it does not know is an error, so that the image
//! made here and the one Docker makes cannot drift apart.

use anyhow::{Context, Result, bail, ensure};

/// How an image runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `<user id>:<group id>`.
    pub user: String,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
}

/// The one copy that the last stage makes: everything `rootfs.sh` has collected.
const COPY: &str = "--from=build /rootfs /";

/// Reads a Dockerfile.
///
/// # Errors
/// Its last stage holds an instruction that is not followed here, or lacks one.
pub(super) fn parse(dockerfile: &str) -> Result<Config> {
    let (_, stage) = dockerfile.rsplit_once("\nFROM scratch\n").context("there is no stage `FROM scratch`")?;
    let (mut user, mut env, mut entrypoint, mut copied) = (None, Vec::new(), None, false);
    for line in stage.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (instruction, rest) = line.split_once(' ').with_context(|| format!("`{line}` has no argument"))?;
        match instruction {
            "COPY" if rest == COPY && !copied => copied = true,
            "ENV" => env.push(rest.to_owned()),
            "USER" => user = Some(rest.to_owned()),
            "ENTRYPOINT" => entrypoint = Some(serde_json::from_str(rest).with_context(|| format!("`{line}` is no JSON list"))?),
            _ => bail!("`{line}` is not known to the packer: add it to tests/src/image/recipe.rs"),
        }
    }
    ensure!(copied, "`COPY {COPY}` is missing");
    Ok(Config { user: user.context("USER is missing")?, env, entrypoint: entrypoint.context("ENTRYPOINT is missing")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "FROM rust AS build\nRUN cargo build\n\nFROM scratch\nCOPY --from=build /rootfs /\nENV A=b\nUSER 65532:65532\nENTRYPOINT [\"/bin/x\"]\n";

    #[test]
    fn reads_the_last_stage() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config, Config { user: "65532:65532".into(), env: vec!["A=b".into()], entrypoint: vec!["/bin/x".into()] });
    }

    #[test]
    fn refuses_what_it_would_not_follow() {
        let error = parse(&GOOD.replace("ENV A=b", "EXPOSE 80")).unwrap_err();
        assert!(error.to_string().contains("EXPOSE 80"), "{error}");
        let error = parse(&GOOD.replace("ENV A=b", "COPY extra /extra")).unwrap_err();
        assert!(error.to_string().contains("COPY extra"), "{error}");
    }

    #[test]
    fn misses_what_is_missing() {
        for line in ["COPY --from=build /rootfs /\n", "USER 65532:65532\n", "ENTRYPOINT [\"/bin/x\"]\n"] {
            assert!(parse(&GOOD.replace(line, "")).is_err(), "without {line}");
        }
    }
}
