from http import HTTPStatus
from typing import Any

import httpx

from ... import errors
from ...client import AuthenticatedClient, Client
from ...models.claim_request import ClaimRequest
from ...models.problem import Problem
from ...models.task_response import TaskResponse
from ...types import UNSET, Response, Unset


def _get_kwargs(
    *,
    body: ClaimRequest,
    idempotency_key: str | Unset = UNSET,
) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    if not isinstance(idempotency_key, Unset):
        headers["Idempotency-Key"] = idempotency_key

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/claim",
    }

    _kwargs["json"] = body.to_dict()

    headers["Content-Type"] = "application/json"

    _kwargs["headers"] = headers
    return _kwargs


def _parse_response(
    *, client: AuthenticatedClient | Client, response: httpx.Response
) -> Problem | TaskResponse | None:
    if response.status_code == 200:
        response_200 = TaskResponse.from_dict(response.json())

        return response_200

    if response.status_code == 400:
        response_400 = Problem.from_dict(response.json())

        return response_400

    if response.status_code == 401:
        response_401 = Problem.from_dict(response.json())

        return response_401

    if response.status_code == 403:
        response_403 = Problem.from_dict(response.json())

        return response_403

    if response.status_code == 405:
        response_405 = Problem.from_dict(response.json())

        return response_405

    if response.status_code == 413:
        response_413 = Problem.from_dict(response.json())

        return response_413

    if response.status_code == 415:
        response_415 = Problem.from_dict(response.json())

        return response_415

    if response.status_code == 422:
        response_422 = Problem.from_dict(response.json())

        return response_422

    if response.status_code == 503:
        response_503 = Problem.from_dict(response.json())

        return response_503

    if client.raise_on_unexpected_status:
        raise errors.UnexpectedStatus(response.status_code, response.content)
    else:
        return None


def _build_response(
    *, client: AuthenticatedClient | Client, response: httpx.Response
) -> Response[Problem | TaskResponse]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    *,
    client: AuthenticatedClient | Client,
    body: ClaimRequest,
    idempotency_key: str | Unset = UNSET,
) -> Response[Problem | TaskResponse]:
    """Take a task under a lease.

     Chooses one of the group's available tasks at random, gives it a new id, makes this client its owner
    and moves
    its available time to `duration` from now. Two claims never get the same task while its lease runs.

    `tasks` holds that task, or nothing where no task of the group is available. An id in `depends` that
    no task
    has is a refusal, even where the group is empty.

    With `groups` in place of `group` it chooses among all those groups that have something, at random;
    exactly one
    of the two has to be given. With `limit` it takes up to so many tasks in one step. With `wait` the
    answer is
    held back until something can be claimed, because it was added, given back, or its lease ran out, or
    until the
    time is up. A client that disconnects while it waits gets no task.

    Args:
        idempotency_key (str | Unset): A name for one logical call, 16 to 64 letters, digits, `_`
            or `-`, bare or in double quotes.
        body (ClaimRequest): What to claim, and for how long. Exactly one of `group` and `groups`
            has to be given.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | TaskResponse]
    """

    kwargs = _get_kwargs(
        body=body,
        idempotency_key=idempotency_key,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    *,
    client: AuthenticatedClient | Client,
    body: ClaimRequest,
    idempotency_key: str | Unset = UNSET,
) -> Problem | TaskResponse | None:
    """Take a task under a lease.

     Chooses one of the group's available tasks at random, gives it a new id, makes this client its owner
    and moves
    its available time to `duration` from now. Two claims never get the same task while its lease runs.

    `tasks` holds that task, or nothing where no task of the group is available. An id in `depends` that
    no task
    has is a refusal, even where the group is empty.

    With `groups` in place of `group` it chooses among all those groups that have something, at random;
    exactly one
    of the two has to be given. With `limit` it takes up to so many tasks in one step. With `wait` the
    answer is
    held back until something can be claimed, because it was added, given back, or its lease ran out, or
    until the
    time is up. A client that disconnects while it waits gets no task.

    Args:
        idempotency_key (str | Unset): A name for one logical call, 16 to 64 letters, digits, `_`
            or `-`, bare or in double quotes.
        body (ClaimRequest): What to claim, and for how long. Exactly one of `group` and `groups`
            has to be given.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | TaskResponse
    """

    return sync_detailed(
        client=client,
        body=body,
        idempotency_key=idempotency_key,
    ).parsed


async def asyncio_detailed(
    *,
    client: AuthenticatedClient | Client,
    body: ClaimRequest,
    idempotency_key: str | Unset = UNSET,
) -> Response[Problem | TaskResponse]:
    """Take a task under a lease.

     Chooses one of the group's available tasks at random, gives it a new id, makes this client its owner
    and moves
    its available time to `duration` from now. Two claims never get the same task while its lease runs.

    `tasks` holds that task, or nothing where no task of the group is available. An id in `depends` that
    no task
    has is a refusal, even where the group is empty.

    With `groups` in place of `group` it chooses among all those groups that have something, at random;
    exactly one
    of the two has to be given. With `limit` it takes up to so many tasks in one step. With `wait` the
    answer is
    held back until something can be claimed, because it was added, given back, or its lease ran out, or
    until the
    time is up. A client that disconnects while it waits gets no task.

    Args:
        idempotency_key (str | Unset): A name for one logical call, 16 to 64 letters, digits, `_`
            or `-`, bare or in double quotes.
        body (ClaimRequest): What to claim, and for how long. Exactly one of `group` and `groups`
            has to be given.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | TaskResponse]
    """

    kwargs = _get_kwargs(
        body=body,
        idempotency_key=idempotency_key,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    *,
    client: AuthenticatedClient | Client,
    body: ClaimRequest,
    idempotency_key: str | Unset = UNSET,
) -> Problem | TaskResponse | None:
    """Take a task under a lease.

     Chooses one of the group's available tasks at random, gives it a new id, makes this client its owner
    and moves
    its available time to `duration` from now. Two claims never get the same task while its lease runs.

    `tasks` holds that task, or nothing where no task of the group is available. An id in `depends` that
    no task
    has is a refusal, even where the group is empty.

    With `groups` in place of `group` it chooses among all those groups that have something, at random;
    exactly one
    of the two has to be given. With `limit` it takes up to so many tasks in one step. With `wait` the
    answer is
    held back until something can be claimed, because it was added, given back, or its lease ran out, or
    until the
    time is up. A client that disconnects while it waits gets no task.

    Args:
        idempotency_key (str | Unset): A name for one logical call, 16 to 64 letters, digits, `_`
            or `-`, bare or in double quotes.
        body (ClaimRequest): What to claim, and for how long. Exactly one of `group` and `groups`
            has to be given.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | TaskResponse
    """

    return (
        await asyncio_detailed(
            client=client,
            body=body,
            idempotency_key=idempotency_key,
        )
    ).parsed
