//! Amazon API Gateway's access log, as JSON with the names of AWS's own examples:
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-logging.html>,
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-logging-variables.html>.
//! `docs/gateways.md` has the format.
//!
//! `$context.identity.sourceIp` is the address of the connection to AWS. `resourcePath` and `routeKey`
//! are templates such as `/household/{id}`: what was done, not what was looked at.

use crate::extract::{
    table::{Entry, at, of, took},
    value::{Clock, Unit},
};

pub(in crate::extract) const TABLE: &[Entry] = &[
    of("user.id", &["/principalId", "/user", "/caller"]),
    of("source.ip", &["/ip", "/sourceIp"]),
    of("http.request.method", &["/httpMethod"]),
    of("url.path", &["/path"]),
    of("http.response.status_code", &["/status"]),
    took(Unit::Millis, &["/responseLatency"]),
    of("purpose", &["/purpose"]),
    of("subject", &["/subject"]),
    of("transaction.id", &["/transactionId", "/requestId"]),
    of("action", &["/action", "/routeKey", "/resourcePath"]),
    of("items", &["/items"]),
    of("party", &["/party"]),
    at(Clock::Epoch(Unit::Millis), &["/requestTimeEpoch"]),
    at(Clock::Clf, &["/requestTime"]),
];
