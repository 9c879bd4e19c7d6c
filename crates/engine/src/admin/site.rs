//! What there is to ask for, and who may.

use crate::admin::answer::{Answer, JSON};
use crate::admin::changes::{Act, Changes};
use crate::admin::head::{Head, Method};
use crate::admin::health::readiness;
use crate::admin::hosts::Hosts;
use crate::admin::keeper::Keeper;
use crate::admin::page::Page;
use crate::admin::picture::{NoAnswer, Pictures};
use crate::metrics::text::Format;

/// What there is, for people who ask for something else.
const INDEX: &str = "\
recluster: the admin listener of a cluster

GET  /metrics       metrics for Prometheus
GET  /livez         200 while the master answers
GET  /readyz        200 while new clients may be sent here; /readyz?strict wants a worker in every slot
GET  /status        the status, as JSON
GET  /history       the last ten minutes, as JSON; /history?since=N has what came from number N on
GET  /              a page that shows all of this
POST /reload        replace every worker; /reload?wait answers with the verdict
POST /scale?n=N     change the number of workers to N, or by +N or -N
POST /stop          let every worker finish, then end
POST /terminate     kill every worker, then end

POST needs the token of --admin-token-file: Authorization: Bearer TOKEN
";

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Read(Read),
    Change(Act),
}

/// What can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Page,
    History,
    Metrics,
    Livez,
    Readyz,
    Status,
}

impl Place {
    fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Read(Read::Page),
            "/history" => Self::Read(Read::History),
            "/metrics" => Self::Read(Read::Metrics),
            "/livez" => Self::Read(Read::Livez),
            "/readyz" => Self::Read(Read::Readyz),
            "/status" => Self::Read(Read::Status),
            "/reload" => Self::Change(Act::Reload),
            "/scale" => Self::Change(Act::Scale),
            "/stop" => Self::Change(Act::Stop),
            "/terminate" => Self::Change(Act::Terminate),
            _ => return None,
        })
    }
}

/// What every client's task needs of the master.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) pictures: Pictures,
    pub(super) keeper: Keeper,
    pub(super) page: Page,
    /// None where it does not matter: on a unix socket, which no web page reaches.
    pub(super) hosts: Option<Hosts>,
    pub(super) changes: Changes,
}

impl Site {
    /// The answer to a request of this client.
    pub(super) async fn answer(&self, head: &Head, from: &str) -> Answer {
        if let Some(hosts) = &self.hosts
            && head.hosts.iter().any(|host| !hosts.allow(host))
        {
            return Answer::refusal(
                403,
                "this Host is not allowed: ask by address or as localhost, or name it with --admin-host",
            );
        }
        let Some(place) = Place::at(&head.path) else {
            return Answer::refusal(404, format!("there is nothing here.\n\n{INDEX}"));
        };
        match (place, head.method) {
            (Place::Read(what), Method::Get | Method::Head) => self.read(what, head).await,
            (Place::Change(act), Method::Post) => self.changes.make(act, head, from).await,
            (Place::Read(_), Method::Post | Method::Other) => Answer::not_allowed("GET, HEAD"),
            (Place::Change(_), Method::Get | Method::Head | Method::Other) => Answer::not_allowed("POST"),
        }
    }

    async fn read(&self, what: Read, head: &Head) -> Answer {
        self.found(what, head).await.unwrap_or_else(|none| match none {
            NoAnswer::Gone => Answer::refusal(503, "the cluster is over"),
            NoAnswer::Silent => Answer::refusal(503, "the cluster does not answer in time"),
        })
    }

    /// Who asks for the health soon gives up: it waits for no picture.
    async fn found(&self, what: Read, head: &Head) -> Result<Answer, NoAnswer> {
        Ok(match what {
            Read::Page => self.page.answer(),
            Read::History => match head.asked("since").map(str::parse) {
                None => Answer::shared(200, JSON, self.keeper.since(None)),
                Some(Ok(number)) => Answer::shared(200, JSON, self.keeper.since(Some(number))),
                Some(Err(_)) => Answer::refusal(400, "since=N is the number of a sample or mark"),
            },
            Read::Metrics => {
                let format = Format::accepted(&head.accept);
                Answer::shared(200, format.media_type(), self.pictures.take().await?.metrics(format))
            }
            Read::Status => Answer::shared(200, JSON, self.pictures.take().await?.status()),
            Read::Readyz => match readiness(self.pictures.health().await?, head.wants("strict")) {
                Ok(words) => Answer::words(200, words),
                Err(words) => Answer::words(503, words),
            },
            Read::Livez => {
                self.pictures.lives().await?;
                Answer::words(200, "the master answers")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_every_place_with_what_it_takes() {
        let lines = INDEX.lines().filter(|line| line.starts_with("GET") || line.starts_with("POST /"));
        let mut named = 0;
        for line in lines {
            let mut words = line.split_whitespace();
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let place = Place::at(path.split('?').next().unwrap()).unwrap();
            assert_eq!(matches!(place, Place::Change(_)), method == "POST", "{line}");
            named += 1;
        }
        assert_eq!(named, 10);
    }
}
