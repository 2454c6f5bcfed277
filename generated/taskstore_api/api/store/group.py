from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx

from ... import errors
from ...client import AuthenticatedClient, Client
from ...models.owned import Owned
from ...models.problem import Problem
from ...models.task import Task
from ...types import UNSET, Response, Unset


def _get_kwargs(
    name: str,
    *,
    limit: int | Unset = UNSET,
    owned: Owned | Unset = UNSET,
) -> dict[str, Any]:

    params: dict[str, Any] = {}

    params["limit"] = limit

    json_owned: str | Unset = UNSET
    if not isinstance(owned, Unset):
        json_owned = owned.value

    params["owned"] = json_owned

    params = {k: v for k, v in params.items() if v is not UNSET and v is not None}

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/group/{name}".format(
            name=quote(str(name), safe=""),
        ),
        "params": params,
    }

    return _kwargs


def _parse_response(
    *, client: AuthenticatedClient | Client, response: httpx.Response
) -> Problem | list[Task] | None:
    if response.status_code == 200:
        response_200 = []
        _response_200 = response.json()
        for componentsschemas_tasks_item_data in _response_200:
            componentsschemas_tasks_item = Task.from_dict(
                componentsschemas_tasks_item_data
            )

            response_200.append(componentsschemas_tasks_item)

        return response_200

    if response.status_code == 400:
        response_400 = Problem.from_dict(response.json())

        return response_400

    if response.status_code == 401:
        response_401 = Problem.from_dict(response.json())

        return response_401

    if response.status_code == 404:
        response_404 = Problem.from_dict(response.json())

        return response_404

    if response.status_code == 405:
        response_405 = Problem.from_dict(response.json())

        return response_405

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
) -> Response[Problem | list[Task]]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    name: str,
    *,
    client: AuthenticatedClient | Client,
    limit: int | Unset = UNSET,
    owned: Owned | Unset = UNSET,
) -> Response[Problem | list[Task]]:
    """The tasks of one group.

     Only the tasks that are available now, unless `owned` asks for all of them. Ordered by the instant
    from which
    they are available, then by id. A group without tasks is an empty list, never an error: groups need
    not be
    made and cannot be missing.

    Args:
        name (str): The name of a group, any text of 1 to 512 characters (Unicode scalar values).
        limit (int | Unset): At most this many tasks; 0 means all.
        owned (Owned | Unset): Whether to list also what is not available now, that is claimed or
            delayed tasks.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | list[Task]]
    """

    kwargs = _get_kwargs(
        name=name,
        limit=limit,
        owned=owned,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    name: str,
    *,
    client: AuthenticatedClient | Client,
    limit: int | Unset = UNSET,
    owned: Owned | Unset = UNSET,
) -> Problem | list[Task] | None:
    """The tasks of one group.

     Only the tasks that are available now, unless `owned` asks for all of them. Ordered by the instant
    from which
    they are available, then by id. A group without tasks is an empty list, never an error: groups need
    not be
    made and cannot be missing.

    Args:
        name (str): The name of a group, any text of 1 to 512 characters (Unicode scalar values).
        limit (int | Unset): At most this many tasks; 0 means all.
        owned (Owned | Unset): Whether to list also what is not available now, that is claimed or
            delayed tasks.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | list[Task]
    """

    return sync_detailed(
        name=name,
        client=client,
        limit=limit,
        owned=owned,
    ).parsed


async def asyncio_detailed(
    name: str,
    *,
    client: AuthenticatedClient | Client,
    limit: int | Unset = UNSET,
    owned: Owned | Unset = UNSET,
) -> Response[Problem | list[Task]]:
    """The tasks of one group.

     Only the tasks that are available now, unless `owned` asks for all of them. Ordered by the instant
    from which
    they are available, then by id. A group without tasks is an empty list, never an error: groups need
    not be
    made and cannot be missing.

    Args:
        name (str): The name of a group, any text of 1 to 512 characters (Unicode scalar values).
        limit (int | Unset): At most this many tasks; 0 means all.
        owned (Owned | Unset): Whether to list also what is not available now, that is claimed or
            delayed tasks.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | list[Task]]
    """

    kwargs = _get_kwargs(
        name=name,
        limit=limit,
        owned=owned,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    name: str,
    *,
    client: AuthenticatedClient | Client,
    limit: int | Unset = UNSET,
    owned: Owned | Unset = UNSET,
) -> Problem | list[Task] | None:
    """The tasks of one group.

     Only the tasks that are available now, unless `owned` asks for all of them. Ordered by the instant
    from which
    they are available, then by id. A group without tasks is an empty list, never an error: groups need
    not be
    made and cannot be missing.

    Args:
        name (str): The name of a group, any text of 1 to 512 characters (Unicode scalar values).
        limit (int | Unset): At most this many tasks; 0 means all.
        owned (Owned | Unset): Whether to list also what is not available now, that is claimed or
            delayed tasks.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | list[Task]
    """

    return (
        await asyncio_detailed(
            name=name,
            client=client,
            limit=limit,
            owned=owned,
        )
    ).parsed
