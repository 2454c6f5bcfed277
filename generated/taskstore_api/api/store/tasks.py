from http import HTTPStatus
from typing import Any, cast
from urllib.parse import quote

import httpx

from ... import errors
from ...client import AuthenticatedClient, Client
from ...models.problem import Problem
from ...models.task import Task
from ...types import Response


def _get_kwargs(
    ids: str,
) -> dict[str, Any]:

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/tasks/{ids}".format(
            ids=quote(str(ids), safe=""),
        ),
    }

    return _kwargs


def _parse_response(
    *, client: AuthenticatedClient | Client, response: httpx.Response
) -> Problem | list[None | Task] | None:
    if response.status_code == 200:
        response_200 = []
        _response_200 = response.json()
        for componentsschemas_maybe_tasks_item_data in _response_200:

            def _parse_componentsschemas_maybe_tasks_item(data: object) -> None | Task:
                if data is None:
                    return data
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_maybe_task_type_0 = Task.from_dict(data)

                    return componentsschemas_maybe_task_type_0
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                return cast(None | Task, data)

            componentsschemas_maybe_tasks_item = (
                _parse_componentsschemas_maybe_tasks_item(
                    componentsschemas_maybe_tasks_item_data
                )
            )

            response_200.append(componentsschemas_maybe_tasks_item)

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
) -> Response[Problem | list[None | Task]]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    ids: str,
    *,
    client: AuthenticatedClient | Client,
) -> Response[Problem | list[None | Task]]:
    """Several tasks by their ids.

     The answer has as many elements as ids were asked for, in the same order, with `null` for each id
    that no task
    has. All are read at one instant. A number too large for an id is an id that no task has.

    Args:
        ids (str): One or more ids, separated by commas.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | list[None | Task]]
    """

    kwargs = _get_kwargs(
        ids=ids,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    ids: str,
    *,
    client: AuthenticatedClient | Client,
) -> Problem | list[None | Task] | None:
    """Several tasks by their ids.

     The answer has as many elements as ids were asked for, in the same order, with `null` for each id
    that no task
    has. All are read at one instant. A number too large for an id is an id that no task has.

    Args:
        ids (str): One or more ids, separated by commas.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | list[None | Task]
    """

    return sync_detailed(
        ids=ids,
        client=client,
    ).parsed


async def asyncio_detailed(
    ids: str,
    *,
    client: AuthenticatedClient | Client,
) -> Response[Problem | list[None | Task]]:
    """Several tasks by their ids.

     The answer has as many elements as ids were asked for, in the same order, with `null` for each id
    that no task
    has. All are read at one instant. A number too large for an id is an id that no task has.

    Args:
        ids (str): One or more ids, separated by commas.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | list[None | Task]]
    """

    kwargs = _get_kwargs(
        ids=ids,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    ids: str,
    *,
    client: AuthenticatedClient | Client,
) -> Problem | list[None | Task] | None:
    """Several tasks by their ids.

     The answer has as many elements as ids were asked for, in the same order, with `null` for each id
    that no task
    has. All are read at one instant. A number too large for an id is an id that no task has.

    Args:
        ids (str): One or more ids, separated by commas.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | list[None | Task]
    """

    return (
        await asyncio_detailed(
            ids=ids,
            client=client,
        )
    ).parsed
