//! Requests to the admin port.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;

use super::failure::{Exit, Failure, Outcome};
use super::global::AdminArgs;
use super::http::{Answer, Endpoint, reason, send};

/// The processes that a command was pointed at, and what lets it in.
pub struct Admins<'a> {
    args: &'a AdminArgs,
    token: Option<String>,
}

impl<'a> Admins<'a> {
    /// Reads the token.
    ///
    /// # Errors
    /// It can't be read, or can't be a token.
    pub fn new(args: &'a AdminArgs) -> Outcome<Admins<'a>> {
        let Some(path) = &args.admin_token_file else {
            return Ok(Admins { args, token: None });
        };
        let wrong = |why: &str| {
            let line = format!("can't use the admin token in {}: {why}", path.display());
            Failure::new(Exit::Config, line)
        };
        let token = std::fs::read_to_string(path).map_err(|error| wrong(&reason(&error)))?;
        let token = token.trim().to_owned();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("it must be one word of ASCII characters"));
        }
        Ok(Admins { args, token: Some(token) })
    }

    /// Where they listen.
    pub fn endpoints(&self) -> &'a [Endpoint] {
        &self.args.admins
    }

    /// Asks one of them.
    ///
    /// # Errors
    /// It can't be reached, or doesn't let us in.
    pub async fn ask(&self, endpoint: &Endpoint, method: Method, path: &str) -> Outcome<Answer> {
        self.send(endpoint, method, path, Bytes::new()).await
    }

    /// The same, with a body.
    ///
    /// # Errors
    /// See [`Admins::ask`].
    pub async fn send(
        &self,
        endpoint: &Endpoint,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Outcome<Answer> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = &self.token {
            request = request.header(http::header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| Failure::new(Exit::Internal, format!("can't ask for {path}: {error}")))?;
        let answer = send(endpoint, request, self.args.timeout).await.map_err(|why| {
            let hint = "name it with --admin or BLOCKHOUSE_ADMIN";
            Failure::new(Exit::Unreachable, format!("can't reach a process at {endpoint}: {}; {hint}", why.0))
        })?;
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let hint = "name a file that holds it with --admin-token-file or BLOCKHOUSE_ADMIN_TOKEN_FILE";
                let line = format!("the process at {endpoint} wants its admin token: {hint}");
                Err(Failure::new(Exit::Denied, line))
            }
            _ => Ok(answer),
        }
    }
}

/// The peer answered something that no blockhouse process answers.
pub fn not_blockhouse(endpoint: &Endpoint, status: StatusCode) -> Failure {
    let line = format!(
        "what listens at {endpoint} isn't a blockhouse admin port (HTTP {}): name one with --admin",
        status.as_u16()
    );
    Failure::new(Exit::Unreachable, line)
}
